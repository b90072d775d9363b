// A daemon that was started by a test ends when the test's end of the pipe does.
process.stdin.resume()
process.stdin.on('end', () => process.kill(process.pid, 'SIGKILL'))
