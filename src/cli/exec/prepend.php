<?php
// Written by gatepass: PHP's own streams (file_get_contents and its kin) look at no proxy variable.
(static function (): void {
    $proxy = parse_url((string) getenv('https_proxy'));
    if (!isset($proxy['host'], $proxy['port'])) {
        return;
    }
    $http = ['proxy' => "tcp://{$proxy['host']}:{$proxy['port']}", 'request_fulluri' => true];
    if (isset($proxy['user'])) {
        $pair = rawurldecode($proxy['user']) . ':' . rawurldecode($proxy['pass'] ?? '');
        $http['header'] = 'Proxy-Authorization: Basic ' . base64_encode($pair);
    }
    stream_context_set_default(['http' => $http]);
})();
