(function () {
  'use strict';
  var at = document.getElementById.bind(document);
  var parts = null, worker = null, started = false, began = 0;
  var asked = null, reading = null; // the log that is to be read next, and the one that is read now

  function say(text) { at('status').textContent = text; }
  function progress(share) {
    at('progress').hidden = share === null;
    if (share !== null) at('progress').value = share;
  }

  // The files of the page: beside it, or in it.
  async function bytes(part, advance) {
    var inlined = at('part-' + part.name);
    if (inlined) {
      var text = atob(inlined.textContent);
      advance(part.packed);
      return Uint8Array.from(text, function (c) { return c.charCodeAt(0); });
    }
    var answer = await fetch(part.path, { integrity: part.integrity });
    if (!answer.ok) throw new Error(part.path + ': ' + answer.status);
    var data = new Uint8Array(await answer.arrayBuffer());
    advance(part.packed);
    return data;
  }
  async function unpacked(data) {
    var stream = new Blob([data]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  async function load() {
    var list = JSON.parse(at('parts').textContent), done = 0, all = 0;
    list.forEach(function (part) { all += part.packed; });
    function advance(size) { done += size; progress((60 * done) / all); }
    say('Loading Python and kvmwhy, ' + (all / 1e6).toFixed(1) + ' MB …');
    progress(0);
    var loaded = {};
    await Promise.all(list.map(async function (part) { loaded[part.name] = await unpacked(await bytes(part, advance)); }));
    parts = loaded;
  }

  function start() {
    started = false;
    progress(60);
    say('Starting Python …');
    var code = URL.createObjectURL(new Blob([parts['worker.js']], { type: 'text/javascript' }));
    worker = new Worker(code);
    worker.onmessage = function (event) { if (event.target === worker) heard(event.data); }; // not one that was ended
    worker.onerror = function (event) { if (event.target === worker) heard({ kind: 'failed', text: event.message || 'it ended' }); };
    worker.postMessage({ kind: 'start', parts: parts });
  }
  function restart() {
    worker.terminate();
    start();
  }
  function heard(data) {
    if (data.kind === 'ready') {
      started = true;
      progress(null);
      say('Ready.');
      document.body.dataset.state = 'ready';
      if (asked) send();
    } else if (data.kind === 'progress') {
      progress(data.percent);
      say('Reading, ' + data.percent + ' % …');
    } else if (data.kind === 'answer') {
      done(data);
    } else if (started) {
      finish('failed');
      failure('It could not be explained', data.text);
      restart(); // its memory may be full
    } else {
      progress(null);
      failure('Python does not start in this browser', data.text);
      document.body.dataset.state = 'broken';
    }
  }
  function failure(what, why) {
    var text = document.createElement('pre');
    text.textContent = why;
    text.tabIndex = 0;
    at('answer').replaceChildren(sentence(what + '. What Python said:'), text);
  }
  function sentence(text) {
    var made = document.createElement('p');
    made.textContent = text;
    return made;
  }

  // The last log that was given is the one that is read: another that is being read ends for it.
  function ask(file, name) {
    asked = { file: file, name: name };
    if (reading) { finish('stopped'); restart(); } else if (started) send();
  }
  function send() {
    reading = asked;
    asked = null;
    began = performance.now();
    document.body.dataset.state = 'busy';
    at('stop').hidden = false;
    at('answer').replaceChildren();
    say('Reading …');
    progress(0);
    worker.postMessage({ kind: 'explain', file: reading.file, name: reading.name });
  }
  function finish(state) {
    reading = null;
    progress(null);
    at('stop').hidden = true;
    document.body.dataset.state = state;
  }
  function done(data) {
    finish('done');
    var seconds = ((performance.now() - began) / 1000).toFixed(1);
    var count = data.json ? data.json.split('\n').length - 1 : 0;
    say(count ? count + (count === 1 ? ' failure, ' : ' failures, ') + seconds + ' s.' : 'No KVM failure found in it, ' + seconds + ' s.');
    show(data);
  }
  function show(data) {
    // Everything of the log in it is escaped; besides, this page's policy lets nothing run that is not its own.
    // Only the body is taken: this page has the style already.
    var body = data.page.slice(data.page.indexOf('<body>'), data.page.lastIndexOf('</body>'));
    var made = new DOMParser().parseFromString(body, 'text/html');
    var nodes = Array.from(made.querySelectorAll('body > nav, main > article'));
    if (data.remarks.length) {
      var list = document.createElement('ul');
      data.remarks.forEach(function (remark) {
        var item = document.createElement('li');
        item.textContent = remark;
        list.append(item);
      });
      nodes.unshift(list);
    }
    if (data.page) nodes.push(savers(data));
    at('answer').replaceChildren.apply(at('answer'), nodes);
    at('answer').focus();
  }
  function savers(data) {
    var row = document.createElement('p');
    row.className = 'row';
    [['Save the page', data.page, 'kvmwhy.html', 'text/html'], ['Save as JSON', data.json, 'kvmwhy.json', 'application/json']]
      .forEach(function (kind) {
        var button = document.createElement('button');
        button.type = 'button';
        button.textContent = kind[0];
        button.addEventListener('click', function () {
          var link = document.createElement('a');
          link.href = URL.createObjectURL(new Blob([kind[1]], { type: kind[3] }));
          link.download = kind[2];
          link.click();
          setTimeout(function () { URL.revokeObjectURL(link.href); }, 60000);
        });
        row.append(button);
      });
    return row;
  }

  at('ask').addEventListener('submit', function (event) {
    event.preventDefault();
    var file = at('file').files[0];
    if (at('text').value) ask(new Blob([at('text').value]), null);
    else if (file) ask(file, file.name);
    else { say('Paste a log first, or choose a file.'); at('text').focus(); }
  });
  at('file').addEventListener('change', function () {
    var file = at('file').files[0];
    if (file) { at('text').value = ''; ask(file, file.name); }
  });
  at('stop').addEventListener('click', function () { finish('stopped'); restart(); });
  document.addEventListener('dragover', function (event) { event.preventDefault(); at('ask').classList.add('over'); });
  document.addEventListener('dragleave', function (event) { if (!event.relatedTarget) at('ask').classList.remove('over'); });
  document.addEventListener('drop', function (event) {
    event.preventDefault();
    at('ask').classList.remove('over');
    var file = event.dataTransfer.files[0], text = event.dataTransfer.getData('text');
    if (file) ask(file, file.name);
    else if (text) { at('text').value = text; ask(new Blob([text]), null); }
  });

  load().then(start).catch(function (error) {
    progress(null);
    document.body.dataset.state = 'broken';
    say(location.protocol === 'file:' && !at('part-worker.js')
      ? 'A browser opens the other files of this folder only through a server: run python3 -m http.server in it.'
      : 'The page could not be loaded: ' + error.message);
  });
})();
