'use strict';
// The frame of the widget. The server renders each step; this sends what the customer does, and speaks Okra's
// postMessage protocol with the page.
(() => {
  if ('returned' in document.body.dataset) {
    // A script may close only a window that a script opened.
    if (window.opener || window.name === 'okra-bank') setTimeout(() => window.close(), 900);
    return;
  }

  if ('login' in document.body.dataset) {
    // The window of the login at the bank. The frame that opened it hands over the session; another page cannot.
    const stay = (text) => { document.querySelector('p').textContent = text; };
    if (!window.opener) { stay('Open this window with the button of the page that you came from.'); return; }
    window.addEventListener('message', async (event) => {
      if (event.origin !== location.origin || event.source !== window.opener || typeof event.data.okraSession !== 'string') return;
      try {
        const headers = { 'x-okra-link': event.data.okraSession };
        const response = await fetch('/widget/authorize', { method: 'POST', headers });
        if (!response.ok) throw new Error(String(response.status));
        location.replace((await response.json()).url);
      } catch {
        stay('This did not work. Close this window and start again where you came from.');
      }
    });
    window.opener.postMessage({ okraLogin: true }, location.origin);
    return;
  }

  const step = document.getElementById('step');
  const framed = window.parent !== window;
  const link = document.body.dataset.link;
  // The grey behind the dialog is for an embedding page.
  if (!framed) document.body.classList.add('alone');
  let page = '*', session = null, timer = null, popup = null, waiting = null, closing = false;

  // Each message has exactly one of ifameLoaded (as Okra spells it), success, error, close, beforeClose, event.
  const postToPage = (kind, data) => { if (framed) window.parent.postMessage({ ...data, [kind]: true }, page); };
  const postEvent = (name, data) => { if (page !== '*') postToPage('event', { event_name: name, ...data }); };

  const stop = () => { clearTimeout(timer); timer = null; };

  // The window of the login gets the session once it waits for it and the bank is chosen.
  const handOver = () => {
    if (!waiting || !step.querySelector('[data-go]')) return;
    waiting.postMessage({ okraSession: session }, location.origin);
    waiting = null;
  };
  window.addEventListener('message', (event) => {
    if (event.origin !== location.origin || !event.data || event.data.okraLogin !== true || !session) return;
    waiting = event.source;
    handOver();
  });

  const show = (html, quiet) => {
    stop();
    const fresh = new DOMParser().parseFromString(html, 'text/html').querySelector('section');
    if (!fresh) return fail('The response of the server cannot be shown.');
    const before = step.querySelector('section');
    const same = before && before.dataset.step === fresh.dataset.step;
    if (same && quiet) {
      before.dataset.look = fresh.dataset.look || '';
    } else {
      step.replaceChildren(fresh);
      const first = fresh.querySelector('h1');
      if (first) first.focus();
      postEvent('step ' + fresh.dataset.step);
    }
    const now = step.querySelector('section');
    if (!same || !quiet) {
      if (now.dataset.success) postToPage('success', JSON.parse(now.dataset.success));
      if (now.dataset.error) postToPage('error', JSON.parse(now.dataset.error));
    }
    if (now.dataset.again) {
      timer = setTimeout(() => send({ action: now.dataset.again, look: now.dataset.look || 0 }, true), Number(now.dataset.after));
    }
    handOver();
    // The step did not lead to the bank: its window has nothing to show.
    if (!quiet && popup && !now.querySelector('[data-go]')) {
      popup.close();
      popup = waiting = null;
    }
    return now;
  };

  const say = (heading, message) => {
    const section = document.createElement('section'), title = document.createElement('h1'), text = document.createElement('p');
    section.dataset.step = 'said';
    title.textContent = heading;
    title.tabIndex = -1;
    text.textContent = message;
    section.append(title, text);
    stop();
    step.replaceChildren(section);
    title.focus();
  };
  const fail = (message) => say('This does not work', message);

  const send = async (fields, quiet) => {
    stop();
    if (!quiet) step.setAttribute('aria-busy', 'true');
    try {
      const body = fields instanceof URLSearchParams ? fields : new URLSearchParams(fields);
      const response = await fetch('/widget/step', { method: 'POST', headers: { 'x-okra-link': session }, body });
      if (!response.ok) throw new Error(String(response.status));
      show(await response.text(), quiet);
    } catch {
      if (quiet) timer = setTimeout(() => send(fields, true), 4000);
      else fail('The server cannot be reached. Check your connection, close this window and try again.');
    } finally {
      step.removeAttribute('aria-busy');
    }
  };

  // The app's colour, and black or white on it, whichever is easier to read.
  const paint = (color) => {
    const [red, green, blue] = [1, 3, 5].map((at) => {
      const part = parseInt(color.slice(at, at + 2), 16) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    const light = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    const style = document.documentElement.style;
    style.setProperty('--brand', color);
    style.setProperty('--on-brand', light > 0.179 ? '#000' : '#fff');
  };

  const begin = async (options, origin, alone) => {
    session = '';
    page = origin || '*';
    try {
      const response = await fetch('/widget/begin', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ origin, options, alone }),
      });
      const begun = await response.json();
      if (!response.ok) {
        fail(begun.message);
        postToPage('error', begun);
        return;
      }
      session = begun.session;
      document.getElementById('app-name').textContent = begun.app;
      for (const warning of begun.warnings) console.warn('Okra: ' + warning);
      if (begun.color) paint(begun.color);
      show(begun.html);
    } catch {
      fail('The server cannot be reached. Check your connection, close this window and try again.');
    }
  };

  window.addEventListener('message', (event) => {
    if (event.source !== window.parent || session !== null || !event.data || typeof event.data !== 'object') return;
    if (!('withOptions' in event.data || 'withShortURL' in event.data || 'key' in event.data || 'token' in event.data)) return;
    begin(event.data, event.origin);
  });

  const close = () => {
    if (closing) return;
    closing = true;
    stop();
    if (popup && !popup.closed) popup.close();
    postToPage('beforeClose', {});
    postToPage('close', {});
    closing = false;
    if (framed) return;
    // The page of a short link is not embedded, so no page removes the frame.
    const done = step.querySelector('section[data-success]');
    if (done && done.dataset.redirect) location.assign(done.dataset.redirect);
    else if (done) say('All done', 'You can close this window.');
    else say('Closed', 'Nothing was linked. Open the link again to start anew.');
  };

  document.addEventListener('submit', (event) => {
    event.preventDefault();
    const form = event.target;
    const fields = new URLSearchParams(new FormData(form, event.submitter));
    const need = form.querySelector('[data-need]');
    if (need && !fields.has(need.dataset.need)) { need.hidden = false; return; }
    // Opened during the click: later a browser would block the window.
    if ('popup' in form.dataset) popup = window.open('/widget/login', 'okra-bank', 'popup,width=480,height=760');
    fields.set('action', form.dataset.action);
    send(fields);
  });

  document.addEventListener('click', (event) => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.id === 'close' || 'close' in button.dataset) close();
    else if (button.dataset.action && button.type === 'button') send({ action: button.dataset.action });
  });

  document.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') close();
    if (event.key !== 'Tab') return;
    // The focus stays in the dialog: the page behind it is not in use.
    const all = [...document.querySelectorAll('button:not([disabled],[hidden]),a[href],input')].filter((it) => it.offsetParent);
    const first = all[0], last = all[all.length - 1], at = document.activeElement;
    if (event.shiftKey && (at === first || at === document.body)) { last.focus(); event.preventDefault(); }
    else if (!event.shiftKey && at === last) { first.focus(); event.preventDefault(); }
  });

  document.addEventListener('input', (event) => {
    if (event.target.dataset.filter !== 'banks') return;
    const wanted = event.target.value.trim().toLowerCase();
    let shown = 0;
    for (const item of document.querySelectorAll('#banks li')) {
      item.hidden = !item.dataset.name.includes(wanted);
      shown += item.hidden ? 0 : 1;
    }
    document.getElementById('none').hidden = shown > 0;
  });

  // The customer returned to this window, maybe from the bank.
  window.addEventListener('focus', () => {
    const now = step.querySelector('section[data-again]');
    if (now && timer) send({ action: now.dataset.again, look: now.dataset.look || 0 }, true);
  });

  if (framed) postToPage('ifameLoaded', {});
  else if (link) begin({ ref: link }, '', true);
  else fail('This page is opened by the widget on a page of the app.');
})();
