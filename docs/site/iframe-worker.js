// The search of the site runs in a Worker, which browsers refuse to a page that was opened as a file. There it runs in
// a frame instead: the frame's window has the interface of a worker for the script, and this class for the page.
if (location.protocol === 'file:') {
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const frame = document.body.appendChild(document.createElement('iframe'));
      frame.hidden = true;
      this.inside = frame.contentWindow;
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent('message', {data}));
      this.inside.importScripts = (...addresses) =>
        addresses.reduce((before, one) => before.then(() => this.load(one)), Promise.resolve());
      this.loaded = this.load(address);
    }

    load(address) {
      return new Promise((resolve, reject) => {
        const script = this.inside.document.createElement('script');
        Object.assign(script, {src: new URL(address, location.href), onload: resolve, onerror: reject});
        this.inside.document.body.append(script);
      });
    }

    postMessage(data) {
      this.loaded.then(() => this.inside.dispatchEvent(new MessageEvent('message', {data})));
    }

    terminate() {
      this.inside.frameElement.remove();
    }
  };
}
