// An authorization server: npm oidc-provider, http on PORT and https on PORT + 1. Environment: PORT, CERT, KEY, CA, KEYS (a
// folder for the clients' private keys), TTL (seconds a token lives), SKEW (seconds its clock is ahead).
// /_count tells how often each client got a token.
import { Provider } from 'oidc-provider';
import * as jose from 'jose';
import http from 'node:http'; import https from 'node:https'; import fs from 'node:fs'; import crypto from 'node:crypto';

const { CERT, KEY, CA, KEYS } = process.env, PORT = +process.env.PORT, TTL = +(process.env.TTL || 3600), SKEW = +(process.env.SKEW || 0);
const now = Date.now;
Date.now = () => now() + SKEW * 1000;
const issuer = `https://localhost:${PORT + 1}`;

const jwks = { keys: [] };
for (const alg of ['RS256', 'ES256']) { const k = await jose.generateKeyPair(alg, { extractable: true }); jwks.keys.push({ ...await jose.exportJWK(k.privateKey), alg, use: 'sig', kid: 'as-' + alg }); }
const CC = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [], scope: 'api:read api:write' };
const back = ['http://127.0.0.1/callback', 'http://localhost/callback', 'http://127.0.0.1/'];
const person = { application_type: 'native', response_types: ['code'], redirect_uris: back, scope: 'openid offline_access email api:read api:write', grant_types: ['authorization_code', 'refresh_token'] };
const clients = [
  { client_id: 'cc-basic', client_secret: 'cc basic/secret:+%&=', token_endpoint_auth_method: 'client_secret_basic', ...CC },
  { client_id: 'cc-post', client_secret: 'cc-post-secret', token_endpoint_auth_method: 'client_secret_post', ...CC },
  { client_id: 'cc-sjwt', client_secret: 'cc-sjwt-secret-that-is-long-enough-32', token_endpoint_auth_method: 'client_secret_jwt', token_endpoint_auth_signing_alg: 'HS256', ...CC },
  { client_id: 'cc-mtls', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=alice', ...CC },
  { client_id: 'cc-mtls-bound', token_endpoint_auth_method: 'tls_client_auth', tls_client_auth_subject_dn: 'CN=alice', tls_client_certificate_bound_access_tokens: true, ...CC },
  { client_id: 'cc-dpop', client_secret: 'cc-dpop-secret', token_endpoint_auth_method: 'client_secret_basic', dpop_bound_access_tokens: true, ...CC },
  { client_id: 'cc-dpop-nonce', client_secret: 'cc-dpop-secret', token_endpoint_auth_method: 'client_secret_basic', dpop_bound_access_tokens: true, ...CC },
  { client_id: 'web', client_secret: 'web-secret', token_endpoint_auth_method: 'client_secret_basic', ...person },
  { client_id: 'native', token_endpoint_auth_method: 'none', ...person },
  { client_id: 'native-dpop', token_endpoint_auth_method: 'none', dpop_bound_access_tokens: true, ...person },
  { client_id: 'device', token_endpoint_auth_method: 'none', application_type: 'native', grant_types: ['urn:ietf:params:oauth:grant-type:device_code', 'refresh_token'], response_types: [], redirect_uris: [], scope: 'openid offline_access api:read' },
  { client_id: 'pw', client_secret: 'pw-secret', token_endpoint_auth_method: 'client_secret_basic', grant_types: ['password', 'refresh_token'], redirect_uris: [], response_types: [], scope: 'openid offline_access api:read' },
  { client_id: 'rs', client_secret: 'rs-secret', token_endpoint_auth_method: 'client_secret_basic', grant_types: [], redirect_uris: [], response_types: [] },
];
for (const alg of ['RS256', 'PS256', 'ES256', 'EdDSA']) {
  const k = await jose.generateKeyPair(alg, { extractable: true }), kid = 'kid-' + alg.toLowerCase();
  fs.writeFileSync(`${KEYS}/${alg.toLowerCase()}.pem`, await jose.exportPKCS8(k.privateKey));
  clients.push({ client_id: 'cc-pkjwt-' + alg.toLowerCase(), token_endpoint_auth_method: 'private_key_jwt', ...(alg === 'EdDSA' ? {} : { token_endpoint_auth_signing_alg: alg }), jwks: { keys: [{ ...await jose.exportJWK(k.publicKey), kid, ...(alg === 'EdDSA' ? {} : { alg }), use: 'sig' }] }, ...CC });
}

const dn = (x) => x.subject.split('\n').reverse().join(',');
const provider = new Provider(issuer, {
  clients, jwks, cookies: { keys: ['gatepass-test'] },
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'tls_client_auth', 'none'],
  enabledJWA: { clientAuthSigningAlgValues: ['HS256', 'RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'], dPoPSigningAlgValues: ['ES256'] },
  scopes: ['openid', 'offline_access', 'email', 'api:read', 'api:write'], claims: { openid: ['sub'], email: ['email'] },
  findAccount: (ctx, id) => ['alice', 'bob'].includes(id) ? { accountId: id, claims: () => ({ sub: id, email: `${id}@gp.test` }) } : undefined,
  responseTypes: ['code'], pkce: { required: () => true },
  issueRefreshToken: async (ctx, client, code) => client.grantTypeAllowed('refresh_token') && code.scopes.has('offline_access'),
  ttl: { AccessToken: TTL, ClientCredentials: TTL, RefreshToken: 86400, DeviceCode: 600, AuthorizationCode: 60, Session: 86400, Grant: 86400, IdToken: 3600, Interaction: 600 },
  features: {
    devInteractions: { enabled: true }, clientCredentials: { enabled: true }, introspection: { enabled: true, allowedPolicy: () => true }, revocation: { enabled: true, allowedPolicy: () => true }, deviceFlow: { enabled: true },
    dPoP: { enabled: true, nonceSecret: crypto.randomBytes(32), requireNonce: (ctx) => ctx.oidc?.client?.clientId === 'cc-dpop-nonce' },
    mTLS: { enabled: true, certificateBoundAccessTokens: true, tlsClientAuth: true,
      getCertificate: (ctx) => ctx.socket.getPeerX509Certificate?.()?.toString(),
      certificateAuthorized: (ctx) => ctx.socket.authorized === true,
      certificateSubjectMatches: (ctx, property, expected) => property === 'tls_client_auth_subject_dn' && dn(ctx.socket.getPeerX509Certificate()) === expected },
  },
});
provider.registerGrantType('password', async (ctx) => {
  const { username, password, scope } = ctx.oidc.params;
  if (username !== 'alice' || password !== 's3cret pass') { ctx.status = 400; ctx.body = { error: 'invalid_grant', error_description: 'wrong username or password' }; return; }
  const client = ctx.oidc.client, grant = new provider.Grant({ accountId: username, clientId: client.clientId }); grant.addOIDCScope(scope || 'openid'); const grantId = await grant.save();
  ctx.oidc.entity('Client', client);
  const base = { accountId: username, client, grantId, scope: scope || 'openid', gty: 'password' };
  const access = new provider.AccessToken(base); ctx.oidc.entity('AccessToken', access); const access_token = await access.save();
  const refresh = new provider.RefreshToken({ ...base, rotations: 0 }); const refresh_token = await refresh.save();
  ctx.body = { access_token, refresh_token, expires_in: access.expiration, token_type: access.tokenType, scope: access.scope };
}, ['username', 'password', 'scope']);

const count = {};
const answer = provider.callback();
provider.on('grant.success', (ctx) => { const k = `${ctx.oidc.client.clientId} ${ctx.oidc.params.grant_type}`; count[k] = (count[k] || 0) + 1; });
for (const event of ['grant.error', 'authorization.error', 'server_error', 'introspection.error']) provider.on(event, (ctx, e) => console.log(event, e.message, e.error_description || '', e.error_detail || ''));
const serve = (req, res) => {
  res.setHeader('date', new Date(Date.now()).toUTCString());
  return req.url === '/_count' ? (res.setHeader('content-type', 'application/json'), res.end(JSON.stringify(count))) : answer(req, res);
};
http.createServer(serve).listen(PORT, '127.0.0.1');
https.createServer({ cert: fs.readFileSync(CERT), key: fs.readFileSync(KEY), ca: fs.readFileSync(CA), requestCert: true, rejectUnauthorized: false }, serve).listen(PORT + 1, '127.0.0.1');
