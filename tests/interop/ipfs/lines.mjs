// One JSON command a line on stdin, one JSON answer a line on stdout; ends when stdin does.
import { createInterface } from 'node:readline'

export function say (value) {
  process.stdout.write(JSON.stringify(value) + '\n')
}

export function serve (commands) {
  const lines = createInterface({ input: process.stdin })
  lines.on('line', async line => {
    const { id, command, ...fields } = JSON.parse(line)
    try {
      say({ id, answer: (await commands[command](fields)) ?? null })
    } catch (error) {
      say({ id, error: String(error?.message ?? error) })
    }
  })
  lines.on('close', () => process.exit(0))
}
