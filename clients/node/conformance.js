'use strict'
// What every client must do (clients/README.md): conformance.js vectors FILE | talk | again
const fs = require('fs')
const assert = require('assert')
const { KeychainAuthClient, KeychainAuthError, encode } = require('./index.js')

const SERVICE = 'conformance'
const ok = name => console.log(`ok ${name}`)

function vectors (file) {
  for (const { request } of JSON.parse(fs.readFileSync(file, 'utf8')).vectors) {
    if (request) console.log(encode(trimmed(request)))
  }
}

/** The vectors write out the defaults of fields that were omitted; a check may not even have empty ones. */
function trimmed (request) {
  return Object.fromEntries(Object.entries(request).filter(([name, value]) =>
    !(name === 'match' && value === 'exact') && (typeof value === 'string' || Object.keys(value).length)))
}

async function talk () {
  const client = new KeychainAuthClient()
  const odd = 'ünï\n"quoted"\\\u0000\u2028😀'
  await client.write(SERVICE, { 'a:1': '1', 'a:2': odd, 'b/ключ': '' }, { attributes: { env: 'test' } })
  ok('write')
  assert.strictEqual(await client.get(SERVICE, 'a:2'), odd)
  assert.strictEqual(await client.get(SERVICE, 'b/ключ'), '')
  ok('get')
  assert.strictEqual(await client.get(SERVICE, 'nothing'), null)
  ok('absent')
  const read = await client.read(SERVICE, ['b/ключ', 'nothing', 'a:1'])
  assert.deepStrictEqual(read, [
    { target: 'b/ключ', value: '', attributes: { env: 'test' } },
    { target: 'a:1', value: '1', attributes: { env: 'test' } }
  ])
  ok('order')
  assert.deepStrictEqual((await client.read(SERVICE, ['a:'], { prefix: true })).map(each => each.target), ['a:1', 'a:2'])
  assert.deepStrictEqual(await client.read(SERVICE, ['a:'], { prefix: true, attributes: { env: 'other' } }), [])
  ok('prefix')
  const names = await client.search(SERVICE)
  assert.deepStrictEqual(names.map(each => each.target), ['a:1', 'a:2', 'b/ключ'])
  assert(names.every(each => !('value' in each)))
  ok('search')
  await client.check(SERVICE)
  ok('check')
  const long = 'é'.repeat(120000)
  await client.write(SERVICE, { long })
  const answers = await Promise.all(Array.from({ length: 40 }, (_, at) => client.get(SERVICE, at % 2 ? 'long' : 'a:1')))
  answers.forEach((answer, at) => assert.strictEqual(answer, at % 2 ? long : '1'))
  ok('many')
  await assert.rejects(client.get('not-granted', 'x'), error =>
    error instanceof KeychainAuthError && error.reason === 'service_not_allowed' && error.status === 'denied')
  assert.strictEqual(await client.get(SERVICE, 'a:1'), '1')
  ok('denied')
  await client.delete(SERVICE, ['long', 'nothing'])
  await client.delete(SERVICE, ['a:'], { prefix: true })
  assert.deepStrictEqual((await client.search(SERVICE)).map(each => each.target), ['b/ключ'])
  ok('delete')
  return client
}

async function again () {
  const client = await talk()
  console.log('restart the daemon')
  fs.readSync(0, Buffer.alloc(1))
  await new Promise(resolve => setImmediate(resolve))
  await client.write(SERVICE, { 'b/ключ': 'anew' })
  assert.strictEqual(await client.get(SERVICE, 'b/ключ'), 'anew')
  ok('again')
  client.close()
}

const run = { vectors, talk: async () => (await talk()).close(), again }[process.argv[2]]
Promise.resolve(run(process.argv[3])).catch(error => {
  console.log(`${error.name}: ${error.message}`)
  process.exit(1)
})
