// The wire of docs/spec/wire.md, written from that page alone: canonical msgpack, frames, records.
// Nothing of it is taken from the Python code, so that two readings of the page meet in the test.

export const HELLO = 90
export const HEARTBEAT = 91
export const ONE_WAY = 0
export const CALL = 1
export const REPLY = 2
export const ERROR = 3
const VERSION = 1
const CAP = 1 << 20
const utf8 = new TextEncoder()

export function join (parts) {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) { out.set(part, at); at += part.length }
  return out
}

// Unsigned integers up to 2^53, byte strings, text, booleans and arrays; the shortest form of each.
export function pack (value) {
  if (typeof value === 'number') return packNumber(value)
  if (typeof value === 'boolean') return Uint8Array.of(value ? 0xc3 : 0xc2)
  if (typeof value === 'string') {
    const raw = utf8.encode(value)
    return join([raw.length < 32 ? Uint8Array.of(0xa0 | raw.length) : sized(raw.length, 0xd9, 0xda, 0xdb), raw])
  }
  if (value instanceof Uint8Array) return join([sized(value.length, 0xc4, 0xc5, 0xc6), value])
  if (Array.isArray(value)) {
    const head = value.length < 16 ? Uint8Array.of(0x90 | value.length) : sized(value.length, null, 0xdc, 0xdd)
    return join([head, ...value.map(pack)])
  }
  throw new Error(`${typeof value} has no place on this wire`)
}

function packNumber (value) {
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${value} is no unsigned integer`)
  if (value < 128) return Uint8Array.of(value)
  if (value < 2 ** 32) return sized(value, 0xcc, 0xcd, 0xce)
  const out = new Uint8Array(9)
  out[0] = 0xcf
  new DataView(out.buffer).setBigUint64(1, BigInt(value))
  return out
}

function sized (size, one, two, four) {
  const out = new Uint8Array(5)
  const view = new DataView(out.buffer)
  if (one !== null && size < 2 ** 8) { out[0] = one; out[1] = size; return out.subarray(0, 2) }
  if (size < 2 ** 16) { out[0] = two; view.setUint16(1, size); return out.subarray(0, 3) }
  out[0] = four
  view.setUint32(1, size)
  return out
}

// Read one value that fills `raw`; whatever packs to other bytes is refused.
export function unpack (raw) {
  const state = { raw, at: 0, view: new DataView(raw.buffer, raw.byteOffset, raw.byteLength) }
  const value = read(state)
  const again = pack(value)
  if (state.at !== raw.length || Buffer.compare(again, raw) !== 0) throw new Error('not canonical')
  return value
}

function read (state) {
  const { raw, view } = state
  const tag = raw[state.at++]
  if (tag < 0x80) return tag
  if ((tag & 0xf0) === 0x90) return items(state, tag & 0x0f)
  if ((tag & 0xe0) === 0xa0) return text(state, tag & 0x1f)
  const unsigned = (size) => {
    state.at += size
    const from = state.at - size
    if (size === 8) return Number(view.getBigUint64(from))
    return size === 1 ? view.getUint8(from) : size === 2 ? view.getUint16(from) : view.getUint32(from)
  }
  switch (tag) {
    case 0xc2: return false
    case 0xc3: return true
    case 0xc4: return bytes(state, unsigned(1))
    case 0xc5: return bytes(state, unsigned(2))
    case 0xc6: return bytes(state, unsigned(4))
    case 0xcc: return unsigned(1)
    case 0xcd: return unsigned(2)
    case 0xce: return unsigned(4)
    case 0xcf: return unsigned(8)
    case 0xd9: return text(state, unsigned(1))
    case 0xda: return text(state, unsigned(2))
    case 0xdc: return items(state, unsigned(2))
    default: throw new Error(`no such value on this wire: 0x${tag.toString(16)}`)
  }
}

function bytes (state, size) {
  state.at += size
  if (state.at > state.raw.length) throw new Error('cut off')
  return state.raw.slice(state.at - size, state.at)
}

function text (state, size) {
  return new TextDecoder('utf-8', { fatal: true }).decode(bytes(state, size))
}

function items (state, count) {
  return Array.from({ length: count }, () => read(state))
}

// u32 total | u32 head | head [version, flow, kind, request_id, trace, body] | tail
export function frame (flow, kind, requestId, body) {
  const head = pack([VERSION, flow, kind, requestId, new Uint8Array(0), body])
  const prefix = new Uint8Array(8)
  const view = new DataView(prefix.buffer)
  view.setUint32(0, 4 + head.length)
  view.setUint32(4, head.length)
  return join([prefix, head])
}

// Cuts what arrives into frames.
export class Frames {
  #waiting = new Uint8Array(0); // or the star below would multiply

  * feed (data) {
    this.#waiting = join([this.#waiting, data])
    while (this.#waiting.length >= 8) {
      const view = new DataView(this.#waiting.buffer, this.#waiting.byteOffset)
      const total = view.getUint32(0)
      const size = view.getUint32(4)
      if (total + 4 > CAP || size === 0 || size > total - 4) throw new Error('lengths of no frame')
      if (this.#waiting.length < 4 + total) return
      const [version, flow, kind, requestId, , body] = unpack(this.#waiting.slice(8, 8 + size))
      this.#waiting = this.#waiting.slice(4 + total)
      yield { version, flow, kind, requestId, body }
    }
  }
}

// GossipRecord [chain, topic, author, made_ms, body, signature]; the signature covers the rest.
export async function gossipRecord (key, chain, topic, madeMs, body) {
  const fields = [chain, topic, key.publicKey.raw, madeMs, body]
  const signature = await key.sign(join([utf8.encode('prsm1gs'), pack(fields)]))
  return pack([...fields, new Uint8Array(signature)])
}

export async function readGossipRecord (raw, publicKeyOf) {
  const [chain, topic, author, madeMs, body, signature] = unpack(raw)
  const signed = join([utf8.encode('prsm1gs'), pack([chain, topic, author, madeMs, body])])
  const valid = await publicKeyOf(author).verify(signed, signature)
  return { topic, madeMs, author, body, valid }
}
