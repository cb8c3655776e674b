// Search where the site is opened from the disk: browsers start no workers for files, so a hidden frame works instead.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inside = frame.contentWindow;
      this.waiting = []; // messages until the script is there
      this.inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      const script = frame.contentDocument.createElement("script");
      script.src = url;
      script.onload = () => {
        for (const data of this.waiting) this.tell(data);
        this.waiting = null;
      };
      frame.contentDocument.body.append(script);
    }

    postMessage(data) {
      if (this.waiting !== null) this.waiting.push(data);
      else this.tell(data);
    }

    tell(data) {
      this.inside.dispatchEvent(new MessageEvent("message", { data }));
    }
  };
}
