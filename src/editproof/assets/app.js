// What a tab remembers, and what Gradio leaves out for those who use a keyboard or a screen reader.

// A secret word by which a tab finds its work again after a reload.
function editproofTab() {
  let word = sessionStorage.getItem("editproof");
  if (word === null) {
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    word = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    sessionStorage.setItem("editproof", word);
  }
  return word;
}

function editproofForget() {
  sessionStorage.removeItem("editproof");
  location.reload();
}

(() => {
  const STEP = 0.05; // of the width of the pictures, for one key
  const language = Object.keys(EDITPROOF).find((name) => navigator.language.startsWith(name)) ?? "en";
  const say = EDITPROOF[language];

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

  // A cross on the picture for those without a mouse: arrows move it, Enter clicks there.
  function cross(picture) {
    const at = { x: 0.5, y: 0.5 };
    const mark = document.createElement("div");
    mark.className = "cross";
    const place = () => {
      const box = picture.getBoundingClientRect();
      const scale = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
      const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
      const [x, y] = [box.left + (box.width - width) / 2 + at.x * width, box.top + (box.height - height) / 2 + at.y * height];
      mark.style.left = `${x + scrollX}px`;
      mark.style.top = `${y + scrollY}px`;
      return { clientX: x, clientY: y };
    };
    picture.tabIndex = 0;
    picture.addEventListener("focus", () => {
      if (!picture.matches(":focus-visible")) return;
      document.body.append(mark);
      place();
    });
    picture.addEventListener("blur", () => mark.remove());
    picture.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
      if (move === undefined && event.key !== "Enter") return;
      event.preventDefault();
      if (move === undefined) {
        picture.dispatchEvent(new MouseEvent("click", { bubbles: true, ...place() }));
        return;
      }
      at.x = Math.min(Math.max(at.x + move[0], 0), 0.999);
      at.y = Math.min(Math.max(at.y + move[1], 0), 0.999);
      place();
    });
  }

  let shown = false; // the download: it is not to appear where nobody sees it
  function help() {
    document.documentElement.lang = language;
    const picture = document.querySelector("#found img");
    if (picture !== null && picture.tabIndex !== 0) cross(picture);
    const download = document.querySelector("#download");
    if (download !== null && download.offsetParent !== null && !shown) download.scrollIntoView({ block: "nearest" });
    shown = download !== null && download.offsetParent !== null;
    for (const button of document.querySelectorAll('[aria-label="common.upload"]')) {
      button.setAttribute("aria-label", say.upload_more);
      button.addEventListener("click", () => button.querySelector("input").click()); // its inner button is hidden
    }
    for (const empty of document.querySelectorAll("div.empty[aria-label]:not([role])")) empty.setAttribute("role", "img");
    const line = document.querySelector('#slider [data-testid="slider"]');
    if (line === null || line.tabIndex === 0) return;
    line.tabIndex = 0;
    const said = { role: "slider", "aria-label": say.slider_line };
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

  // What is painted is told to the page after each stroke, undo or press of a key: Gradio itself tells it only when asked.
  let painting = null;
  const painted = () => {
    clearTimeout(painting);
    painting = setTimeout(() => document.querySelector("#painted")?.click(), 300); // the painter is done with it then
  };
  let pressed = false;
  document.addEventListener("pointerdown", ({ target }) => (pressed = Boolean(target.closest?.("#painter"))), true);
  window.addEventListener("pointerup", () => pressed && painted(), true);
  document.addEventListener("keyup", ({ target }) => target.closest?.("#painter") && painted(), true);

  // Before and after: the line follows a slider that lies over the pictures.
  document.addEventListener("input", ({ target }) => {
    if (target.matches?.(".pair input")) target.closest(".pair").style.setProperty("--at", `${target.value}%`);
  });

  new MutationObserver(help).observe(document.documentElement, { childList: true, subtree: true });
})();
