// A Hawk server: npm's @hapi/hawk, the reference. argv: port, folder of node_modules.
// /plain: the MAC; /payload: the payload hash too; /ahead/…: its clock is an hour ahead. Nonces count once.
const { createRequire } = require('module');
const Hawk = createRequire(process.argv[3] + '/')('@hapi/hawk');
const http = require('http');

const CREDENTIALS = {
  'gp-hawk': { id: 'gp-hawk', key: 'werxhqb98rpaxn39848xrunpaw3489ruxnpa98w4rxn', algorithm: 'sha256', user: 'alice' },
  'gp-hawk1': { id: 'gp-hawk1', key: 'sha1 key &+%', algorithm: 'sha1', user: 'bob' },
};
const seen = new Set();
const once = async (key, nonce, ts) => {
  const used = `${key} ${nonce} ${ts}`;
  if (seen.has(used)) throw new Error('nonce used');
  seen.add(used);
};

async function answer(request, response, body) {
  const send = (status, headers, value) => {
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(JSON.stringify(value) + '\n');
  };
  try {
    const ahead = request.url.startsWith('/ahead') ? 3600e3 : 0;
    const { credentials, artifacts } = await Hawk.server.authenticate(request, async (id) => CREDENTIALS[id], { nonceFunc: once, localtimeOffsetMsec: ahead });
    if (request.url.includes('/payload')) {
      if (!artifacts.hash) throw Hawk.utils.unauthorized('Missing payload hash');
      Hawk.server.authenticatePayload(body, credentials, artifacts, request.headers['content-type'] || '');
    }
    const value = { ok: true, user: credentials.user, app: artifacts.app, dlg: artifacts.dlg, length: body.length };
    const payload = JSON.stringify(value) + '\n';
    // /liar: what it signs was not made with the key.
    const signed = request.url.startsWith('/liar') ? { ...credentials, key: 'another' } : credentials;
    send(200, { 'server-authorization': Hawk.server.header(signed, artifacts, { payload, contentType: 'application/json' }) }, value);
  } catch (error) {
    send(error.output?.statusCode || 401, error.output?.headers || { 'www-authenticate': 'Hawk' }, { ok: false, why: error.message });
  }
}

http.createServer((request, response) => {
  const pieces = [];
  request.on('data', (piece) => pieces.push(piece)).on('end', () => answer(request, response, Buffer.concat(pieces)));
}).listen(+process.argv[2], '127.0.0.1');
