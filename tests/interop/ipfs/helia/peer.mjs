// Helia 5.5.1 on loopback: bitswap over TCP, Noise and Yamux, blocks in memory, nobody to call.
// `import 'helia'` itself needs a native module that is not there; `@helia/utils` does not.
import { createReadStream, createWriteStream } from 'node:fs'
import { pipeline } from 'node:stream/promises'
import { createLibp2p } from 'libp2p'
import { tcp } from '@libp2p/tcp'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { identify } from '@libp2p/identify'
import { Helia } from '@helia/utils'
import { bitswap } from '@helia/block-brokers'
import { unixfs } from '@helia/unixfs'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { MemoryBlockstore } from 'blockstore-core'
import { MemoryDatastore } from 'datastore-core'
import { multiaddr } from '@multiformats/multiaddr'
import { CID } from 'multiformats/cid'
import { say, serve } from './lines.mjs'

const libp2p = await createLibp2p({
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
})
const helia = new Helia({
  libp2p,
  blockstore: new MemoryBlockstore(),
  datastore: new MemoryDatastore(),
  blockBrokers: [bitswap()],
  components: { libp2p }
})
await helia.start()
const files = unixfs(helia)

const identity = () => ({
  peer: libp2p.peerId.toString(),
  addresses: libp2p.getMultiaddrs().map(String)
})

serve({
  id: identity,
  async add ({ path, chunk, width, version, raw }) {
    const cid = await files.addByteStream(createReadStream(path, { highWaterMark: 1 << 20 }), {
      cidVersion: version,
      rawLeaves: raw,
      reduceSingleLeafToSelf: true,
      chunker: fixedSize({ chunkSize: chunk }),
      layout: balanced({ maxChildrenPerNode: width })
    })
    return cid.toString()
  },
  async cat ({ cid, target, ms }) {
    const signal = AbortSignal.timeout(ms)
    const out = createWriteStream(target)
    await pipeline(files.cat(CID.parse(cid), { signal }), out)
    return out.bytesWritten
  },
  async connect ({ address }) { await libp2p.dial(multiaddr(address)) },
  async put ({ cid, path }) {
    const { readFile } = await import('node:fs/promises')
    await helia.blockstore.put(CID.parse(cid), await readFile(path))
  },
  peers: () => libp2p.getPeers().map(String)
})
say({ id: 0, answer: identity() })
