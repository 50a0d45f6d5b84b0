(function () {
  'use strict';
  var at = document.getElementById.bind(document);
  function say(text) { at('status').textContent = text; }
  // A file is sent as it is; a log that was pasted goes by the form, which needs no script.
  async function send(file) {
    say('Sending ' + file.name + ' …');
    try {
      var answer = await fetch('/?name=' + encodeURIComponent(file.name), { method: 'POST', body: file, headers: { Accept: 'text/html' } });
      var text = await answer.text();
      var body = text.slice(text.indexOf('<body>'), text.lastIndexOf('</body>'));
      var made = new DOMParser().parseFromString(body, 'text/html');
      var nodes = made.querySelectorAll('body > nav, main > article, main > h1, main > ul');
      at('answer').replaceChildren.apply(at('answer'), Array.from(nodes));
      say('');
      at('answer').focus();
    } catch (error) {
      say('The server does not answer: ' + error.message);
    }
  }
  at('file').hidden = false;
  at('file').addEventListener('change', function () { if (at('file').files[0]) send(at('file').files[0]); });
  // Text that is dragged goes where the browser puts it.
  function isFile(event) { return Array.from(event.dataTransfer.types).indexOf('Files') >= 0; }
  document.addEventListener('dragover', function (event) {
    if (!isFile(event)) return;
    event.preventDefault();
    at('ask').classList.add('over');
  });
  document.addEventListener('dragleave', function (event) { if (!event.relatedTarget) at('ask').classList.remove('over'); });
  document.addEventListener('drop', function (event) {
    if (!isFile(event)) return;
    event.preventDefault();
    at('ask').classList.remove('over');
    var file = event.dataTransfer.files[0];
    if (file) send(file);
  });
})();
