// What Gradio leaves out for those who use a keyboard or a screen reader.
(() => {
  const STEP = 0.05; // of the width of the pictures, for one key

  // The line between original and protected, moved as a mouse would.
  function move(line, share) {
    const frame = line.parentElement.getBoundingClientRect();
    const box = line.getBoundingClientRect();
    const y = box.top + box.height / 2;
    const from = box.left + box.width / 2;
    const to = Math.min(Math.max(from + share * frame.width, frame.left), frame.right);
    const at = (x) => ({ bubbles: true, cancelable: true, view: window, button: 0, clientX: x, clientY: y });
    line.dispatchEvent(new MouseEvent("mousedown", at(from)));
    window.dispatchEvent(new MouseEvent("mousemove", at(to)));
    window.dispatchEvent(new MouseEvent("mouseup", at(to)));
    line.setAttribute("aria-valuenow", Math.round((100 * (to - frame.left)) / frame.width));
  }

  function help() {
    for (const button of document.querySelectorAll('[aria-label="common.upload"]')) {
      button.setAttribute("aria-label", "Upload more");
    }
    const line = document.querySelector('#slider [data-testid="slider"]');
    if (line === null || line.tabIndex === 0) return;
    line.tabIndex = 0;
    const said = { role: "slider", "aria-label": "Original to the left, protected to the right of the line" };
    for (const [name, value] of Object.entries({ ...said, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": 50 })) {
      line.setAttribute(name, value);
    }
    line.addEventListener("keydown", (event) => {
      const share = { ArrowLeft: -STEP, ArrowRight: STEP, Home: -1, End: 1 }[event.key];
      if (share === undefined) return;
      event.preventDefault();
      move(line, share);
    });
  }

  new MutationObserver(help).observe(document.documentElement, { childList: true, subtree: true });
})();
