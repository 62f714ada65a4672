'use strict';
// Live pages, the progress of a refresh, and the copying of secrets. Every page works without it.
(() => {
  const main = document.getElementById('main');

  const busy = () => {
    const at = document.activeElement;
    return at && main.contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
  };

  // Replaces the parts of the page that read otherwise now, and leaves the rest, its focus and scroll alone.
  const renew = async () => {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
    if (answer.redirected || !answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('main');
    if (!fresh || busy()) return;
    const keep = document.getElementById('progress');
    const said = keep && keep.textContent;
    const old = [...main.children], now = [...fresh.children];
    if (old.length !== now.length) {
      main.replaceChildren(...now);
    } else {
      old.forEach((part, at) => {
        if (part.outerHTML === now[at].outerHTML || part.contains(document.activeElement)) return;
        now[at].classList.add('fresh');
        part.replaceWith(now[at]);
      });
    }
    const progress = document.getElementById('progress');
    if (progress && said) progress.textContent = said;
  };

  let source, version;
  const listen = () => {
    if (!main || !main.dataset.live || source || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener('version', (event) => {
      const first = version === undefined;
      const moved = version !== event.data;
      version = event.data;
      const seen = new URLSearchParams(main.dataset.live.split('?')[1]).get('seen');
      if (moved && (!first || (seen && seen !== version))) {
        document.dispatchEvent(new Event('moved'));
        renew();
      }
    });
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && source) { source.close(); source = undefined; } else listen();
  });
  listen();

  // "Refresh now": asks, and says what comes of it.
  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!('progress' in form.dataset)) return;
    event.preventDefault();
    const button = form.querySelector('button'), say = (text) => { document.getElementById('progress').textContent = text; };
    button.disabled = true;
    say('Asking the bank…');
    const started = Date.now();
    const changed = new Promise((done) => document.addEventListener('moved', () => done(true), { once: true }));
    const waited = new Promise((done) => setTimeout(() => done(false), 15000));
    try {
      const answer = await fetch(form.action, { method: 'POST', body: new URLSearchParams(new FormData(form)) });
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
        say(page.querySelector('main p')?.textContent || 'It was refused.');
      } else if (await Promise.race([changed, waited])) {
        say(`Something changed, ${Math.max(1, Math.round((Date.now() - started) / 1000))} s after you asked.`);
      } else {
        say('Asked. Nothing has changed within 15 s: the bank says what is stored, or answers slowly.');
      }
    } catch {
      say('The server cannot be reached.');
    }
    const again = document.querySelector('[data-progress] button');
    if (again) again.disabled = false;
  });

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = 'Copied';
  });
})();
