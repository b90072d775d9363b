// A js-libp2p peer that a test drives: one JSON command a line in, one answer or event a line out.
// TCP, Noise, Yamux, identify, ping, gossipsub; and the conversation of docs/spec/wire.md.
//
//   node --require ./polyfill.cjs peer.mjs '{"chain": HEX, "genesis": HEX, "schema": 2, "topics": [...]}'

import { createInterface } from 'node:readline'
import { generateKeyPair, publicKeyFromRaw } from '@libp2p/crypto/keys'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { noise } from '@libp2p/noise'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { yamux } from '@libp2p/yamux'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import {
  CALL, ERROR, Frames, HEARTBEAT, HELLO, ONE_WAY, REPLY, frame, gossipRecord, pack, readGossipRecord, unpack
} from './wire.mjs'

const CTL = '/prsm/ctl/1'
const KEPT = ['/prsm/bulk/1', '/prsm/range/1']
const settings = JSON.parse(process.argv[2])
const unhex = (text) => new Uint8Array(Buffer.from(text, 'hex'))
const hex = (raw) => Buffer.from(raw).toString('hex')
const say = (what) => process.stdout.write(JSON.stringify(what) + '\n')
const chain = unhex(settings.chain)
const key = await generateKeyPair('Ed25519')

const host = await createLibp2p({
  privateKey: key,
  addresses: { listen: ['/ip4/127.0.0.1/tcp/0'] },
  transports: [tcp()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: {
    identify: identify({ runOnConnectionOpen: false }),
    ping: ping(),
    pubsub: gossipsub({ allowPublishToZeroTopicPeers: true })
  }
})

// One conversation on a control stream: hellos first, then heartbeats both ways.
class Conversation {
  #frames = new Frames()
  #calls = new Map()
  #lastId = 0

  constructor (stream, peer, dialler) {
    this.stream = stream
    this.peer = peer
    this.dialler = dialler
    this.greeted = Promise.withResolvers()
    stream.addEventListener('message', (event) => {
      try {
        for (const head of this.#frames.feed(event.data.subarray())) this.#take(head)
      } catch (error) {
        say({ event: 'fault', what: String(error) })
        stream.abort(error)
      }
    })
    stream.addEventListener('close', () => say({ event: 'closed', peer }))
    if (dialler) this.#hello()
  }

  #hello () {
    const addresses = host.getMultiaddrs().map(String)
    const body = pack([1, settings.schema, chain, unhex(settings.genesis), 'js-libp2p', addresses])
    this.stream.send(frame(ONE_WAY, HELLO, 0, body))
  }

  #take ({ flow, kind, requestId, body }) {
    if (kind === HELLO && flow === ONE_WAY) {
      const [protocol, schema, theirs, genesis, agent, addresses] = unpack(body)
      if (!this.dialler) this.#hello()
      const hello = { protocol, schema, chain: hex(theirs), genesis: hex(genesis), agent, addresses }
      say({ event: 'hello', peer: this.peer, dialler: this.dialler, hello })
      this.greeted.resolve(hello)
    } else if (flow === CALL && kind === HEARTBEAT) {
      this.stream.send(frame(REPLY, HEARTBEAT, requestId, body))
    } else if (flow === REPLY || flow === ERROR) {
      this.#calls.get(requestId)?.resolve({ refused: flow === ERROR, kind, answer: unpack(body) })
    }
  }

  async call (kind, fields) {
    const requestId = ++this.#lastId
    const waiting = Promise.withResolvers()
    this.#calls.set(requestId, waiting)
    this.stream.send(frame(CALL, kind, requestId, pack(fields)))
    return waiting.promise
  }
}

const conversations = new Map()
const connectionTo = (peer) => host.getConnections().find((each) => each.remotePeer.toString() === peer)

await host.handle(CTL, (stream, connection) => {
  const peer = connection.remotePeer.toString()
  conversations.set(peer, new Conversation(stream, peer, false))
})
for (const name of KEPT) await host.handle(name, () => {})

host.services.pubsub.addEventListener('message', async ({ detail }) => {
  const read = await readGossipRecord(detail.data, publicKeyFromRaw)
  say({ event: 'gossip', ...read, author: hex(read.author), body: hex(read.body), type: detail.type })
})
for (const topic of settings.topics) host.services.pubsub.subscribe(topic)

const commands = {
  async connect ({ address }) { // by libp2p alone, without a hello
    await host.dial(multiaddr(address))
    return {}
  },
  async dial ({ address }) {
    const connection = await host.dial(multiaddr(address))
    const peer = connection.remotePeer.toString()
    const talk = new Conversation(await connection.newStream(CTL), peer, true)
    conversations.set(peer, talk)
    for (const name of KEPT) await connection.newStream(name)
    return { peer, hello: await talk.greeted.promise }
  },
  async ping ({ peer }) {
    return { ms: await host.services.ping.ping(connectionTo(peer).remotePeer) }
  },
  async identify ({ peer }) {
    // Fails unless the public key it names makes the PeerId that Noise has proved.
    const found = await host.services.identify.identify(connectionTo(peer))
    return {
      peer: found.peerId.toString(),
      key: hex(found.publicKey),
      protocols: found.protocols,
      listening: found.listenAddrs.map(String),
      observed: String(found.observedAddr)
    }
  },
  async heartbeat ({ peer, count }) {
    return conversations.get(peer).call(HEARTBEAT, [count])
  },
  async subscribers ({ topic }) {
    return { peers: host.services.pubsub.getSubscribers(topic).map(String) }
  },
  async announceBlock ({ topic, height, hash, sequence, madeMs }) {
    const announced = pack([new Uint8Array(0), sequence, pack([height, unhex(hash)])])
    return commands.publish({ topic, body: hex(announced), madeMs })
  },
  async publish ({ topic, body, madeMs }) {
    const record = await gossipRecord(key, chain, topic, madeMs, unhex(body))
    for (;;) { // a subscriber is known a moment before there is a stream to it
      const { recipients } = await host.services.pubsub.publish(topic, record)
      if (recipients.length > 0) {
        return { recipients: recipients.map(String), author: hex(key.publicKey.raw) }
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

say({ event: 'listening', peer: host.peerId.toString(), addresses: host.getMultiaddrs().map(String) })

for await (const line of createInterface({ input: process.stdin })) {
  const { id, command, ...rest } = JSON.parse(line)
  commands[command](rest).then(
    (answer) => say({ id, answer }),
    (error) => say({ id, error: String(error) })
  )
}
process.exit(0)
