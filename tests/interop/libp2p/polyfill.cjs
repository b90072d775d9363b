// Node 20 lacks what libp2p 3 calls; Node 22 has it.
if (!Promise.withResolvers) {
  Promise.withResolvers = function () {
    let resolve, reject
    const promise = new this((first, second) => { resolve = first; reject = second })
    return { promise, resolve, reject }
  }
}
