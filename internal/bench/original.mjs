// The original on Node: the server of the tutorial page that examples/browserchat serves, on the official socket.io. All
// that it is told it tells everybody, and who joins or leaves brings the whole list of users to everybody. Messages
// queue up for a client that does not read.
//
//	node --expose-gc original.mjs FOLDER    with socket.io in FOLDER/node_modules
//
// It takes the orders of server.go on its standard input, as far as they make sense here.
import { createServer } from 'node:http'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { resolve } from 'node:path'

const { Server } = createRequire(resolve(process.argv[2], 'package.json'))('socket.io')

const server = createServer()
const io = new Server(server)
const users = []

io.on('connection', (socket) => {
  socket.on('login', (username) => {
    if (users.some((user) => user.username === username)) {
      socket.emit('loginOut', null)
      return
    }
    users.push({ username })
    socket.emit('loginSuccess')
    io.emit('notify', username)
    io.emit('updateUserList', users)
  })
  socket.on('message', ({ username, message }) => {
    io.emit('recevied', username, message)
  })
  socket.on('loginOut', (username) => {
    const i = users.findIndex((user) => user.username === username)
    if (i >= 0) users.splice(i, 1)
    io.emit('loginOut', username)
    io.emit('updateUserList', users)
  })
})

const tell = (report) => console.log(JSON.stringify(report))

server.listen(0, '127.0.0.1', () => {
  tell({ Addr: `127.0.0.1:${server.address().port}` })
  createInterface({ input: process.stdin })
    .on('line', (line) => {
      if (JSON.parse(line).Settle) {
        gc()
        gc()
      }
      tell({})
    })
    .on('close', () => process.exit())
})
