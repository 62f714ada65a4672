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

  // The parts that are highlighted where they are new.
  const LINES = 'tr,.feed>li,dd,.figure';

  // The markup of a part without its relative times: the passing of time alone is not a change.
  const still = (part) => {
    const copy = part.cloneNode(true);
    copy.querySelectorAll('time').forEach((it) => { it.textContent = ''; it.removeAttribute('datetime'); });
    return copy.outerHTML;
  };

  // Replaces a part: what is open stays open, and the focus stays.
  const swap = (part, fresh) => {
    const inner = (of) => [...of.querySelectorAll('a,button,summary,[tabindex]')];
    const at = inner(part).indexOf(document.activeElement);
    const open = [...part.querySelectorAll('details')].map((it) => it.open);
    fresh.querySelectorAll('details').forEach((it, place) => { it.open = open[place] ?? it.open; });
    const progress = part.querySelector('#progress');
    if (progress) fresh.querySelector('#progress')?.replaceWith(progress);
    const known = new Set([...part.querySelectorAll(LINES)].map(still));
    part.replaceWith(fresh);
    // Only for the eye: the attribute is removed again, so that the part compares as the server sent it.
    const news = [...fresh.querySelectorAll(LINES)].filter((it) => !known.has(still(it)));
    news.forEach((it) => { it.dataset.fresh = ''; });
    setTimeout(() => news.forEach((it) => { delete it.dataset.fresh; }), 1600);
    if (at >= 0) inner(fresh)[at]?.focus({ preventScroll: true });
  };

  // Replaces the parts of the page that have changed, and leaves the others, their focus and their scroll position.
  const renew = async () => {
    const response = await fetch(location.href, { headers: { accept: 'text/html' } });
    // The session has ended.
    if (response.redirected && new URL(response.url).pathname === '/dashboard/sign-in') return location.assign(response.url);
    if (response.redirected || !response.ok) return;
    const fresh = new DOMParser().parseFromString(await response.text(), 'text/html').getElementById('main');
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

  // The version that the page shows, where its event source names it. Otherwise the page is read again at the first
  // version that arrives: it may have changed between its loading and its listening.
  let source, version = new URLSearchParams(main?.dataset.live?.split('?')[1]).get('seen');
  const listen = () => {
    if (!main || !main.dataset.live || source || document.hidden) return;
    source = new EventSource(main.dataset.live);
    source.addEventListener('version', (event) => {
      if (version === event.data) return;
      version = event.data;
      renew();
    });
    // Closed for good: the page finds out why by loading again.
    source.addEventListener('error', () => { if (source && source.readyState === EventSource.CLOSED) renew(); });
  };
  document.addEventListener('visibilitychange', () => {
    if (document.hidden && source) { source.close(); source = undefined; } else listen();
  });
  listen();

  // "Refresh now": requests each product, and shows each outcome as it arrives.
  const requestRefresh = async (form, list, product) => {
    const line = document.createElement('p'), label = document.createElement('span'), clock = document.createElement('span');
    const started = Date.now(), seconds = () => `${((Date.now() - started) / 1000).toFixed(1)} s`;
    const say = (what) => { label.textContent = `${product[0].toUpperCase()}${product.slice(1)}: ${what} `; };
    clock.ariaHidden = 'true';
    clock.className = 'note';
    line.append(label, clock);
    list.append(line);
    say('calling the bank…');
    const ticking = setInterval(() => { clock.textContent = seconds(); }, 100);
    try {
      const body = new URLSearchParams(new FormData(form));
      body.set('product', product);
      const response = await fetch(form.action, { method: 'POST', body });
      const text = await response.text();
      const problem = () => new DOMParser().parseFromString(text, 'text/html').querySelector('main p');
      say(response.ok ? text : problem()?.textContent || 'the request was rejected');
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
    await Promise.all(form.dataset.progress.split(' ').map((product) => requestRefresh(form, list, product)));
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
