/* okra-sync widget: Okra.buildWithOptions({ key, token, env, products, refresh, onSuccess, onClose, onError, onEvent, beforeClose }) */
(function (root, factory) {
  if (typeof module === 'object' && typeof module.exports === 'object') module.exports = factory(root);
  else root.Okra = factory(root);
})(typeof window === 'undefined' ? this : window, function (window) {
  'use strict';
  var document = window.document;
  var script = document.currentScript;
  var previous = window.Okra;
  var CALLBACKS = ['onSuccess', 'onClose', 'onError', 'onEvent', 'beforeClose', 'BeforeClose'];
  var INTERVALS = ['one_minute', 'five_minute', 'fifteen_minute', 'thirty_minute', 'one_hour', 'six_hours', 'twelve_hours', 'daily'];
  var PRODUCTS = ['balance', 'transactions'];
  var open = null;

  // What is wrong with the options, in a sentence for the developer; empty where nothing is wrong.
  function problem(options) {
    if (!options || typeof options !== 'object') return 'Okra.buildWithOptions takes an object of options.';
    if (!options.key) return 'key is missing: the public key of your app, from the dashboard, under Keys.';
    if (/^okra_sk_/.test(options.key)) return 'key is a secret key. Never put it into a page: use the public key, from the dashboard, under Keys.';
    if (!options.token) return 'token is missing: the client token of your app, from the dashboard, under Keys.';
    var refresh = options.refresh;
    if (refresh === undefined || refresh === null || refresh === true) return '';
    if (refresh === false) return 'refresh is false, and a linked record is always refreshed here: leave refresh out for daily.';
    if (typeof refresh !== 'object' || Array.isArray(refresh)) return 'refresh must be true or an object {interval, products, webhook_url}.';
    for (var name in refresh) if (['interval', 'products', 'webhook_url'].indexOf(name) < 0) return 'refresh.' + name + ' is unknown: refresh takes interval, products and webhook_url.';
    if ('interval' in refresh && INTERVALS.indexOf(refresh.interval) < 0) return 'refresh.interval is ' + JSON.stringify(refresh.interval) + ', and must be one of ' + INTERVALS.join(', ') + '.';
    if ('products' in refresh) {
      var list = refresh.products;
      var good = Array.isArray(list) && list.length && list.every(function (it) { return PRODUCTS.indexOf(it) >= 0; });
      if (!good) return 'refresh.products is ' + JSON.stringify(list) + ', and must be a list of "balance", "transactions", or both.';
    }
    if ('webhook_url' in refresh && !/^https?:\/\//.test(refresh.webhook_url)) return 'refresh.webhook_url must be a URL that begins with https://.';
    return '';
  }

  function rejectOptions(options, message) {
    console.error('Okra: ' + message);
    if (options && options.onError) options.onError({ type: 'error', error: true, status: false, code: 1000, method: 'Widget', message: message });
  }

  // Callbacks cannot be posted, nor what JSON cannot express.
  function plain(options) {
    var copy = {};
    for (var name in options) if (CALLBACKS.indexOf(name) < 0) copy[name] = options[name];
    return JSON.parse(JSON.stringify(copy));
  }

  function Widget(options, sent, query) {
    var self = this;
    this.options = options;
    this.sent = sent;
    this.origin = new URL(Okra.baseUrl).origin;
    this.before = document.activeElement;
    this.frame = document.createElement('iframe');
    this.frame.title = 'Link a bank account';
    this.frame.src = Okra.baseUrl.replace(/\/$/, '') + '/?isIframe=true&withOptions=true' + query;
    var style = this.frame.style;
    style.position = 'fixed'; style.inset = '0'; style.width = '100%'; style.height = '100%';
    style.border = '0'; style.zIndex = '2147483647'; style.colorScheme = 'auto'; style.background = 'transparent';
    this.listen = function (event) { self.handleMessage(event); };
    window.addEventListener('message', this.listen);
    document.body.appendChild(this.frame);
  }

  Widget.prototype.handleMessage = function (event) {
    if (event.source !== this.frame.contentWindow || event.origin !== this.origin || !event.data) return;
    var data = event.data, options = this.options;
    if (data.ifameLoaded) event.source.postMessage(this.sent, this.origin);
    else if (data.close) { this.close(); if (options.onClose) options.onClose(); }
    else if (data.success) { if (options.onSuccess) options.onSuccess(data); }
    else if (data.error) { console.error('Okra: ' + data.message); if (options.onError) options.onError(data); }
    else if (data.beforeClose) { var before = options.beforeClose || options.BeforeClose; if (before) before(data); }
    else if (data.event) { if (options.onEvent) options.onEvent(data); }
  };

  Widget.prototype.close = function () {
    window.removeEventListener('message', this.listen);
    this.frame.remove();
    open = null;
    if (this.before && this.before.focus) this.before.focus();
  };

  var Okra = {
    version: 2,
    baseUrl: script && script.src ? new URL(script.src).origin : window.location.origin,
    buildWithOptions: function (options) {
      var wrong = problem(options);
      if (wrong) return rejectOptions(options, wrong);
      if (open) open.close();
      var sent = plain(options);
      if (options.env) sent.env = options.env === 'production' ? 'production' : 'production-sandbox';
      sent.source = options.source || 'integration';
      sent.hideCardOnExit = sent.iframeData = sent.withOptions = true;
      var again = options.reauth_account && options.reauth_bank ? '&isQuickRUX=true' : '';
      open = new Widget(options, sent, again + '&key=' + encodeURIComponent(options.key));
    },
    buildWithShortUrl: function (options) {
      if (!options || !options.short_url) return rejectOptions(options, 'short_url is missing.');
      if (open) open.close();
      var sent = plain(options);
      sent.ref = sent.short_url;
      delete sent.short_url;
      sent.source = options.source || 'integration';
      sent.hideCardOnExit = sent.iframeData = sent.withShortURL = true;
      open = new Widget(options, sent, '');
    },
    noConflict: function (deep) {
      if (deep && window.Okra === Okra) window.Okra = previous;
      return Okra;
    }
  };
  return Okra;
});
