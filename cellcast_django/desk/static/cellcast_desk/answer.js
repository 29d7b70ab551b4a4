/* Counts the SMS of an answer as it is typed, and sends it once however often the button is clicked.
   The server does both too, so everything works without this script. */
"use strict";

document.querySelectorAll(".cellcast-answer").forEach((form) => {
    const area = form.querySelector("textarea");
    const output = form.querySelector("output");
    const basic = new Set(area.dataset.basic);
    const extended = new Set(area.dataset.extended);

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

    area.addEventListener("input", showCount);
    form.addEventListener("submit", () => {
        form.querySelector("button").disabled = true;
    });
    showCount();
});
