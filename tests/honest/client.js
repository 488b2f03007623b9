// The same for Node: client.js SOCKET REQUEST COUNT
const net = require('net')
const [path, request, count] = process.argv.slice(2)
let granted = 0

function again (left) {
  if (left === 0) return console.log('granted ' + granted)
  const connection = net.connect(path, () => connection.write(request + '\n'))
  let answer = ''
  connection.on('data', piece => {
    answer += piece
    if (!answer.endsWith('\n')) return
    if (answer.includes('"success"')) granted++
    else console.log(answer)
    connection.end()
  })
  connection.on('error', error => console.log(error.message))
  connection.on('close', () => again(left - 1))
}

again(Number(count))
