// The importer of js-ipfs and Helia alone, over a block store that keeps nothing: it says CIDs.
import { createReadStream } from 'node:fs'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'
import { say, serve } from './lines.mjs'

const blocks = { put: async cid => cid }

async function root (sources, { chunk, width, version, raw, wrap }) {
  let last
  for await (const entry of importer(sources, blocks, {
    cidVersion: version,
    rawLeaves: raw,
    reduceSingleLeafToSelf: true,
    leafType: 'file',
    wrapWithDirectory: wrap,
    chunker: fixedSize({ chunkSize: chunk }),
    layout: balanced({ maxChildrenPerNode: width })
  })) last = entry
  return last.cid.toString()
}

const open = path => createReadStream(path, { highWaterMark: 1 << 20 })

serve({
  add: async ({ path, ...settings }) =>
    root([{ content: open(path) }], { ...settings, wrap: false }),
  folder: async ({ files, ...settings }) =>
    root(Object.entries(files).map(([name, path]) => ({ path: name, content: open(path) })), { ...settings, wrap: true })
})
say({ id: 0, answer: { peer: '', addresses: [] } })
