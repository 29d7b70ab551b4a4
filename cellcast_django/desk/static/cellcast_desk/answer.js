/* Counts the SMS of a text as it is typed, sends it once however often the button is clicked, and
   keeps what has been typed in this tab until it is sent or deleted. The server does the first two
   too, so everything works without this script. */
"use strict";

const DRAFT = "cellcast-draft-";
const [, what, key] = /^#cellcast-(sent|moved)-(\w+)$/.exec(location.hash) ?? [];
let moved = "";

if (what) { // on the page before
    moved = what === "moved" ? sessionStorage.getItem(DRAFT + key) : "";
    sessionStorage.removeItem(DRAFT + key);
    history.replaceState(history.state, "", location.pathname + location.search);
}

document.querySelectorAll(".cellcast-answer").forEach((form) => {
    const area = form.querySelector("textarea");
    const output = form.querySelector("output");
    const buttons = form.querySelectorAll("button");
    const basic = new Set(area.dataset.basic);
    const extended = new Set(area.dataset.extended);
    const draft = DRAFT + form.dataset.draft;
    let isSent = false;

    function segments(text) {
        const characters = Array.from(text);
        const isPlain = characters.every((each) => basic.has(each) || extended.has(each));
        const [alone, joined] = isPlain ? [160, 153] : [70, 67];
        const doubled = isPlain ? characters.filter((each) => extended.has(each)).length : 0;
        const places = text.length + doubled;
        return places <= alone ? 1 : Math.ceil(places / joined);
    }

    function showCount() {
        const count = segments(area.value.trim());
        const { one, many } = output.dataset;
        output.textContent = count === 1 ? one : many.replace("{count}", count);
    }

    function keep() {
        if (area.value) {
            sessionStorage.setItem(draft, area.value);
        } else {
            sessionStorage.removeItem(draft);
        }
    }

    area.value ||= moved || sessionStorage.getItem(draft) || "";
    keep();
    showCount();
    area.addEventListener("input", () => {
        keep();
        showCount();
    });
    form.addEventListener("submit", (event) => {
        if (isSent) {
            event.preventDefault();
        }
        isSent = true;
        // Later: a disabled button would not say that it was the one.
        setTimeout(() => buttons.forEach((button) => {
            button.disabled = true;
        }));
    });
});
