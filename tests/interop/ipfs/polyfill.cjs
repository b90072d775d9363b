// Node 20 lacks what a dependency calls; Node 22 has it.
if (!Promise.withResolvers) {
  Promise.withResolvers = function () {
    let resolve, reject
    const promise = new this((first, second) => { resolve = first; reject = second })
    return { promise, resolve, reject }
  }
}
