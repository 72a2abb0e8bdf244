// Written by gatepass: sends this process's HTTP through the proxy that HTTP_PROXY and HTTPS_PROXY name, for versions of
// Node that do not look at them. Newer ones do (NODE_USE_ENV_PROXY), and are left alone but for the package ws.
'use strict';
(() => {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const able = major > 24 || (major === 24 && minor >= 5) || (major === 22 && minor >= 21);
  const http = require('http'), https = require('https');
  // The package ws makes its connections itself, where it is given no agent; left to the usual agent they go by the proxy.
  for (const module of [http, https]) {
    const request = module.request;
    module.request = function (options, ...rest) {
      const own = options && typeof options === 'object' && !options.agent && !options.socketPath && options.createConnection;
      if (!own || !['netConnect', 'tlsConnect'].includes(own.name)) return request.call(this, options, ...rest);
      const { createConnection, ...others } = options;
      return request.call(this, others, ...rest);
    };
  }
  const variable = (name) => process.env[name.toLowerCase()] || process.env[name] || '';
  if (able || !variable('HTTPS_PROXY')) return;
  const net = require('net'), tls = require('tls');

  const proxies = {};
  for (const [name, secure] of [['HTTP_PROXY', false], ['HTTPS_PROXY', true]]) {
    try { proxies[secure] = new URL(variable(name)); } catch { /* not set, or not a URL */ }
  }
  const bare = (host) => String(host).replace(/^\[|\]$/g, '').toLowerCase();
  const spared = (host, port) => variable('NO_PROXY').split(/[\s,]+/).filter(Boolean).some((entry) => {
    const [, name, only] = /^(.*?)(?::(\d+))?$/.exec(entry.includes('::') ? bare(entry) : entry.toLowerCase());
    if (only && Number(only) !== Number(port)) return false;
    const parent = name.replace(/^\*?\./, '');
    return name === '*' || host === parent || host.endsWith(`.${parent}`);
  });
  // The proxy for a connection; none where it is to the proxy itself, or spared.
  const proxyFor = (secure, host, port) => {
    const proxy = proxies[secure];
    if (!proxy || spared(bare(host), port)) return undefined;
    const itself = bare(host) === bare(proxy.hostname) && Number(port) === Number(proxy.port || 80);
    return itself ? undefined : proxy;
  };
  const tunnel = (proxy, host, port, done) => {
    const name = net.isIPv6(bare(host)) ? `[${bare(host)}]` : host;
    const headers = { host: `${name}:${port}` };
    if (proxy.username) {
      const pair = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
      headers['proxy-authorization'] = `Basic ${Buffer.from(pair).toString('base64')}`;
    }
    const request = http.request({
      method: 'CONNECT', path: `${name}:${port}`, headers,
      createConnection: () => net.connect(Number(proxy.port || 80), bare(proxy.hostname)),
    });
    request.once('connect', (answer, socket) => {
      if (answer.statusCode === 200) return done(null, socket);
      socket.destroy();
      done(new Error(`the proxy refused ${name}:${port}: ${answer.statusCode} ${answer.statusMessage}`));
    });
    request.once('error', done);
    request.end();
  };

  const plainly = http.Agent.prototype.createConnection;
  http.Agent.prototype.createConnection = function createConnection(options, done) {
    const host = options.host || 'localhost', port = options.port || 80;
    const proxy = options.socketPath ? undefined : proxyFor(false, host, port);
    if (!proxy) return plainly.apply(this, arguments);
    tunnel(proxy, host, port, done);
    return undefined;
  };
  const securely = https.Agent.prototype.createConnection;
  https.Agent.prototype.createConnection = function createConnection(options, done) {
    const host = options.host || 'localhost', port = options.port || 443;
    const proxy = options.socketPath || options.socket ? undefined : proxyFor(true, host, port);
    if (!proxy) return securely.apply(this, arguments);
    tunnel(proxy, host, port, (error, socket) => (error ? done(error) : done(null, securely.call(this, { ...options, socket }))));
    return undefined;
  };

  // fetch has connections of its own; their dispatcher can be had once the first use has loaded it.
  const fetching = globalThis.fetch;
  if (!fetching) return;
  const direct = (host, port, done) => {
    const socket = net.connect(port, bare(host), () => done(null, socket));
    socket.once('error', done);
  };
  const connect = (options, done) => {
    const secure = options.protocol === 'https:', host = options.hostname, port = options.port || (secure ? 443 : 80);
    const proxy = proxyFor(secure, host, port);
    const ready = (error, socket) => {
      if (error || !secure) return done(error, error ? null : socket);
      const session = tls.connect({ socket, servername: options.servername || (net.isIP(bare(host)) ? '' : host), ALPNProtocols: ['http/1.1'] });
      session.once('secureConnect', () => done(null, session)).once('error', (cause) => done(cause, null));
      return undefined;
    };
    if (proxy) tunnel(proxy, host, port, ready); else direct(host, port, ready);
  };
  let installed = false;
  globalThis.fetch = function fetch(...request) {
    if (!installed) {
      installed = true;
      void globalThis.Request;
      const key = Symbol.for('undici.globalDispatcher.1');
      const Dispatcher = globalThis[key]?.constructor;
      if (Dispatcher?.name === 'Agent') globalThis[key] = new Dispatcher({ connect });
    }
    return fetching.apply(this, request);
  };
})();
