'use strict'
/**
 * A client of keychain-auth for Node, in one file, without dependencies.
 *
 *   const { KeychainAuthClient } = require('./index.js')
 *   const client = new KeychainAuthClient()
 *   const url = await client.get('AgentSecrets', 'proj_123:staging:DATABASE_URL')   // null if there is none
 *   client.close()
 *
 * Contract (docs/protocol.md):
 * - The socket is opened close-on-exec (libuv does so), by this process, at the first request.
 * - Requests may be made side by side: they are sent at once, and answered in order.
 * - Errors are KeychainAuthError; `reason` is the daemon's. None holds a value.
 * - The daemon closes idle connections. The next request opens a new one; what changes nothing, or was not sent whole,
 *   is repeated once.
 * - Before anything is sent: socket and folder must be this user's or root's, and nobody else's to write. (Node
 *   cannot ask the kernel who listens; who can bind in such a folder is this user, or root.)
 *
 * Not promised: Windows' named pipe is used as it is, without a look at who listens.
 */

const fs = require('fs')
const net = require('net')
const os = require('os')
const path = require('path')

const NOT_RUNNING = 'keychain-auth daemon is not running. Start it with: keychain-auth start'
const REPEATABLE = new Set(['read', 'search', 'check'])

/** What went wrong. `reason` (string or null) is the daemon's; `status` is `denied`, `error`, or null. */
class KeychainAuthError extends Error {
  constructor (message, reason = null, status = null) {
    super(message)
    this.name = 'KeychainAuthError'
    this.reason = reason
    this.status = status
  }
}

/** The daemon's socket: `chosen`, $KEYCHAIN_AUTH_SOCKET, the user's, the system's. */
function socketPath (chosen) {
  if (chosen || process.env.KEYCHAIN_AUTH_SOCKET) return path.resolve(chosen || process.env.KEYCHAIN_AUTH_SOCKET)
  if (process.platform === 'win32') return '\\\\.\\pipe\\keychain-auth'
  const folder = process.platform === 'darwin'
    ? path.join(os.homedir(), 'Library', 'Application Support')
    : path.isAbsolute(process.env.XDG_RUNTIME_DIR || '') ? process.env.XDG_RUNTIME_DIR : path.join(os.homedir(), '.cache')
  const own = path.join(folder, 'keychain-auth', 'agent.sock')
  const system = '/run/keychain-auth/agent.sock'
  return !fs.existsSync(own) && fs.existsSync(system) ? system : own
}

/** Throws unless only this user, or root, can listen at `socket`. */
function checkListener (socket) {
  if (process.platform === 'win32') return
  let about
  try {
    about = [fs.statSync(socket), fs.statSync(path.dirname(socket))]
  } catch {
    throw new KeychainAuthError(NOT_RUNNING)
  }
  const [listener, folder] = about
  const trusted = [process.geteuid(), 0].includes(listener.uid) && folder.uid === listener.uid && !(folder.mode & 0o022)
  if (!trusted) {
    throw new KeychainAuthError(`what listens on ${socket} is not trusted: others own its folder, or can write it`)
  }
}

/** The line of a request, without its newline. Fields that are undefined are left out. */
function encode ({ action, service, match, targets, values, attributes }) {
  return JSON.stringify({ type: 'REQUEST', action, service, match, targets, values, attributes })
}

class KeychainAuthClient {
  /** `socket`: path of the daemon's socket. `timeout`: milliseconds for each request. */
  constructor ({ socket, timeout = 30000 } = {}) {
    this.path = socketPath(socket)
    this.timeout = timeout
    this.connection = null
    this.waiting = []
  }

  /** The value of one secret, or null. */
  async get (service, target) {
    const [found] = await this.read(service, [target])
    return found ? found.value : null
  }

  /** [{target, value, attributes}], in the order of `targets`; what does not exist is left out. */
  async read (service, targets, { prefix = false, attributes } = {}) {
    return found(await this.send({ action: 'read', service, match: prefix ? 'prefix' : undefined, targets, attributes }))
  }

  /** Store `values` (an object from target to value, or a Map) in one transaction. */
  async write (service, values, { attributes } = {}) {
    const pairs = values instanceof Map ? [...values] : Object.entries(values)
    const [targets, texts] = [pairs.map(pair => pair[0]), pairs.map(pair => pair[1])]
    await this.send({ action: 'write', service, targets, values: texts, attributes })
  }

  /** Remove secrets in one transaction; what does not exist is no error. */
  async delete (service, targets, { prefix = false, attributes } = {}) {
    await this.send({ action: 'delete', service, match: prefix ? 'prefix' : undefined, targets, attributes })
  }

  /** [{target, attributes}], sorted, never with values. */
  async search (service, prefixes = [], { attributes } = {}) {
    return found(await this.send({ action: 'search', service, targets: prefixes.length ? prefixes : undefined, attributes }))
  }

  /** Resolves if this program may read, write and search the service. */
  async check (service) {
    await this.send({ action: 'check', service })
  }

  /** Send a request, and resolve to the whole answer. Rejects with KeychainAuthError. */
  send (request) {
    return new Promise((resolve, reject) => this._send(request, resolve, reject, true))
  }

  /** End the connection. A later request opens a new one. */
  close () {
    if (this.connection) this.connection.destroy()
  }

  _send (request, resolve, reject, mayRepeat) {
    let entry
    try {
      const fresh = !this.connection
      if (fresh) this._connect()
      const late = () => this._fail(this.connection, `no complete answer within ${this.timeout} ms`, false)
      const timer = setTimeout(late, this.timeout)
      const repeat = mayRepeat && !fresh ? () => this._send(request, resolve, reject, false) : null
      entry = { timer, resolve, reject, repeat, mayHaveRun: false }
      this.waiting.push(entry)
      this.connection.ref()
      // A line that was not sent whole is never executed.
      this.connection.write(encode(request) + '\n', error => { entry.mayHaveRun = !error && !REPEATABLE.has(request.action) })
    } catch (error) {
      reject(error)
    }
  }

  _connect () {
    checkListener(this.path)
    const connection = this.connection = net.connect(this.path)
    let pieces = []
    connection.on('data', piece => {
      // Cut at the newline byte before decoding: a letter may be spread over two pieces.
      for (let at; (at = piece.indexOf(10)) >= 0; piece = piece.subarray(at + 1)) {
        this._answer(Buffer.concat([...pieces, piece.subarray(0, at)]).toString('utf8'))
        pieces = []
      }
      if (piece.length) pieces.push(piece)
    })
    connection.on('error', error => {
      const absent = error.code === 'ENOENT' || error.code === 'ECONNREFUSED'
      this._fail(connection, absent ? NOT_RUNNING : `the connection failed (${error.code})`)
    })
    connection.on('close', () => this._fail(connection, 'the daemon closed the connection before it had answered'))
  }

  _answer (line) {
    const entry = this.waiting.shift()
    if (!entry) return
    clearTimeout(entry.timer)
    if (!this.waiting.length && this.connection) this.connection.unref() // an idle connection keeps no program alive
    let answer = null
    try {
      answer = JSON.parse(line)
    } catch {} // its message would show a part of the line
    if (answer && answer.type === 'RESPONSE' && answer.status === 'success') return entry.resolve(answer)
    if (!answer || answer.type !== 'RESPONSE') {
      entry.reject(new KeychainAuthError('the answer is not one of the keychain-auth protocol'))
      return this._fail(this.connection, 'an answer before it was not one of the keychain-auth protocol', false)
    }
    entry.reject(new KeychainAuthError(`Daemon rejected request: ${answer.reason}`, answer.reason, answer.status))
  }

  _fail (connection, why, mayRepeat = true) {
    if (connection !== this.connection) return
    this.connection = null
    const waiting = this.waiting.splice(0)
    if (connection) connection.destroy()
    for (const { timer, reject, repeat, mayHaveRun } of waiting) {
      clearTimeout(timer)
      if (mayRepeat && repeat && !mayHaveRun) repeat()
      else reject(new KeychainAuthError(why))
    }
  }
}

function found (answer) {
  return (answer.results || []).map(result => ({ attributes: {}, ...result }))
}

module.exports = { KeychainAuthClient, KeychainAuthError, encode, socketPath }
