// The search of the site runs in a worker. A page that was opened as a file may not start one: there the script of the
// worker runs in a frame without content, and messages go to and fro between the frame and the page.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      frame.title = "search";
      document.body.append(frame);
      const inside = frame.contentWindow;
      const loaded = new Promise((resolve) => {
        inside.document.open();
        inside.document.write("<!DOCTYPE html><html><body></body></html>");
        inside.document.close();
        inside.postMessage_ = inside.postMessage.bind(inside);
        inside.postMessage = (data) => {
          const event = new MessageEvent("message", { data });
          this.dispatchEvent(event);
          if (this.onmessage) this.onmessage(event);
        };
        inside.importScripts = (...addresses) =>
          addresses.reduce((before, one) => before.then(() => this.load(inside, one)), Promise.resolve());
        this.load(inside, address).then(resolve);
      });
      this.send = (data) => loaded.then(() => inside.postMessage_(data, "*"));
    }

    load(inside, address) {
      return new Promise((resolve, reject) => {
        const script = inside.document.createElement("script");
        script.src = new URL(address, location.href);
        script.onload = resolve;
        script.onerror = reject;
        inside.document.body.append(script);
      });
    }

    postMessage(data) {
      this.send(data);
    }

    terminate() {}
  };
}
