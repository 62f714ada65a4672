'use strict';
// Live pages, the progress of a refresh, and the copying of secrets. Every page works without it.
(() => {
  const main = document.getElementById('main');

  const busy = () => {
    const at = document.activeElement;
    return at && main.contains(at) && /^(INPUT|SELECT|TEXTAREA)$/.test(at.tagName);
  };

  // A form in which something was entered that was not sent.
  const touched = (part) => [...part.querySelectorAll('input,select,textarea')].some((it) => {
    if (it.type === 'checkbox' || it.type === 'radio') return it.checked !== it.defaultChecked;
    if (it.tagName === 'SELECT') return [...it.options].some((option) => option.defaultSelected && !option.selected);
    return it.value !== it.defaultValue;
  });

  // What is marked where it is new.
  const LINES = 'tr,.feed>li,dd,.figure';

  // What a part says, without how long ago that was: time alone is no news.
  const still = (part) => {
    const copy = part.cloneNode(true);
    copy.querySelectorAll('time').forEach((it) => { it.textContent = ''; it.removeAttribute('datetime'); });
    return copy.outerHTML;
  };

  // One part in place of another: what is open and what has the focus stay so.
  const swap = (part, fresh) => {
    const inner = (of) => [...of.querySelectorAll('a,button,summary,[tabindex]')];
    const at = inner(part).indexOf(document.activeElement);
    const open = [...part.querySelectorAll('details')].map((it) => it.open);
    fresh.querySelectorAll('details').forEach((it, place) => { it.open = open[place] ?? it.open; });
    const progress = part.querySelector('#progress');
    if (progress) fresh.querySelector('#progress')?.replaceWith(progress);
    const known = new Set([...part.querySelectorAll(LINES)].map(still));
    part.replaceWith(fresh);
    // Only for the eye: the attribute goes, so that the part compares as the server sent it.
    const news = [...fresh.querySelectorAll(LINES)].filter((it) => !known.has(still(it)));
    news.forEach((it) => { it.dataset.fresh = ''; });
    setTimeout(() => news.forEach((it) => { delete it.dataset.fresh; }), 1600);
    if (at >= 0) inner(fresh)[at]?.focus({ preventScroll: true });
  };

  // Replaces the parts of the page that read otherwise now, and leaves the rest, its focus and scroll alone.
  const renew = async () => {
    const answer = await fetch(location.href, { headers: { accept: 'text/html' } });
    // Somebody signed out, or the session is over.
    if (answer.redirected && new URL(answer.url).pathname === '/dashboard/sign-in') return location.assign(answer.url);
    if (answer.redirected || !answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), 'text/html').getElementById('main');
    if (!fresh || busy()) return;
    const old = [...main.children], now = [...fresh.children];
    if (old.length !== now.length) {
      if (!touched(main)) main.replaceChildren(...now);
      return;
    }
    old.forEach((part, at) => {
      const progress = part.querySelector('#progress');
      const same = part.outerHTML === now[at].outerHTML && !(progress && progress.children.length);
      if (!same && !touched(part)) swap(part, now[at]);
    });
  };

  // What the page shows, where it says so. One that does not is read again when it first hears a version:
  // what it shows may have moved on between its reading and its listening.
  let source, version = new URLSearchParams(main?.dataset.live?.split('?')[1]).get('seen');
  const listen = () => {
    if (!main || !main.dataset.live || source || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener('version', (event) => {
      if (version === event.data) return;
      version = event.data;
      renew();
    });
    // Refused for good, and not for a moment: the page finds out why.
    source.addEventListener('error', () => { if (source && source.readyState === EventSource.CLOSED) renew(); });
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && source) { source.close(); source = undefined; } else listen();
  });
  listen();

  // "Refresh now": asks for each product, and says what comes of it as it comes.
  const ask = async (form, list, product) => {
    const line = document.createElement('p'), text = document.createElement('span'), clock = document.createElement('span');
    const started = Date.now(), seconds = () => `${((Date.now() - started) / 1000).toFixed(1)} s`;
    const say = (what) => { text.textContent = `${product[0].toUpperCase()}${product.slice(1)}: ${what} `; };
    clock.ariaHidden = 'true';
    clock.className = 'note';
    line.append(text, clock);
    list.append(line);
    say('asking the bank…');
    const ticking = setInterval(() => { clock.textContent = seconds(); }, 100);
    try {
      const body = new URLSearchParams(new FormData(form));
      body.set('product', product);
      const answer = await fetch(form.action, { method: 'POST', body });
      const said = await answer.text();
      const page = () => new DOMParser().parseFromString(said, 'text/html').querySelector('main p');
      say(answer.ok ? said : page()?.textContent || 'it was refused');
    } catch {
      say('the server cannot be reached');
    }
    clearInterval(ticking);
    clock.textContent = seconds();
  };

  document.addEventListener('submit', async (event) => {
    const form = event.target;
    if (!form.dataset.progress) return;
    event.preventDefault();
    const list = document.getElementById('progress');
    form.querySelector('button').disabled = true;
    list.replaceChildren();
    await Promise.all(form.dataset.progress.split(' ').map((product) => ask(form, list, product)));
    const again = document.querySelector('[data-progress] button');
    if (again) again.disabled = false;
    renew();
  });

  document.addEventListener('click', (event) => {
    if (!event.target.closest('[data-back]') || history.length < 2) return;
    event.preventDefault();
    history.back();
  });

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (!button) return;
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = 'Copied';
  });
})();
