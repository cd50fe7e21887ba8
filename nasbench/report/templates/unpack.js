// plotly.js stands in this page as gzip in base 85, for it is large. What draws waits for it: plotlyReady.then(...).
const plotlyReady = (async () => {
  const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%.()*+-;,=>?@^_`{|}~";
  const values = new Uint8Array(128);
  [...alphabet].forEach((letter, value) => { values[letter.charCodeAt(0)] = value; });
  const text = document.getElementById("plotly-js").textContent;
  const groups = Math.ceil(text.length / 5);
  const words = new DataView(new ArrayBuffer(4 * groups));
  for (let group = 0; group < groups; group++) {
    let word = 0;
    for (let at = 5 * group; at < 5 * group + 5; at++) word = 85 * word + (at < text.length ? values[text.charCodeAt(at)] : 84);
    words.setUint32(4 * group, word);
  }
  const bytes = words.buffer.slice(0, 4 * groups - (5 * groups - text.length));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.text = await new Response(stream).text();
  document.head.append(script);
})();
