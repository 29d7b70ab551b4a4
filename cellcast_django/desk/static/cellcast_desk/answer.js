/* Counts the SMS of a text as it is typed, puts a chosen one at the cursor, sends once however often
   the button is clicked, keeps what has been typed in this tab until it is sent, noted or deleted, and
   asks before its customer is marked as done without the text, or answered without the note. The
   server sends once, too, so everything works without this script; texts can be copied. */
"use strict";

const nameOf = (key, field) => `cellcast-draft-${key}-${field}`; // of what the tab keeps
const [, what, key] = /^#cellcast-(sent|moved|done)-(\w+)$/.exec(location.hash) ?? [];
let moved = "";

if (what) { // on the page before
    moved = what === "moved" ? sessionStorage.getItem(nameOf(key, "text")) : "";
    const gone = what === "done" ? ["note"] : ["text", "number"];
    gone.forEach((field) => sessionStorage.removeItem(nameOf(key, field)));
    history.replaceState(history.state, "", location.pathname + location.search);
}

document.querySelectorAll("[data-draft]").forEach((form) => {
    const { text: area, number, note } = form.elements;
    let isSent = false;

    [area, number, note].filter(Boolean).forEach((field) => {
        const name = nameOf(form.dataset.draft, field.name);
        const keep = () => sessionStorage.setItem(name, field.value);
        const kept = new Set([sessionStorage.getItem(name), field === area && moved]);
        field.value ||= [...kept].filter(Boolean).join("\n\n");
        keep();
        field.addEventListener("input", keep);
    });
    form.addEventListener("submit", (event) => {
        const isDone = event.submitter?.name === "back";
        const left = isDone ? area : note;
        const question = isDone ? form.dataset.unsent : form.dataset.unkept;
        if (isSent || (left?.value.trim() && !confirm(question))) {
            event.preventDefault();
            return;
        }
        isSent = true;
        if (note && !isDone) {
            note.disabled = true; // the tab keeps it
        }
        // Later: a disabled button would not say that it was the one.
        setTimeout(() => [...form.elements].forEach((each) => {
            each.disabled ||= each.type === "submit";
        }));
    });
    if (!area) {
        return;
    }

    const output = form.querySelector("output");
    const basic = new Set(area.dataset.basic);
    const extended = new Set(area.dataset.extended);
    let cursor; // where it stood when the box was left; none yet: at the end

    function segments(text) {
        const characters = Array.from(text);
        const isPlain = characters.every((each) => basic.has(each) || extended.has(each));
        const [alone, joined] = isPlain ? [160, 153] : [70, 67];
        const doubled = isPlain ? characters.filter((each) => extended.has(each)).length : 0;
        const places = text.length + doubled;
        return places <= alone ? 1 : Math.ceil(places / joined);
    }

    function showCount() {
        const text = area.value.trim();
        const count = text ? segments(text) : 0;
        const { one, many } = output.dataset;
        output.textContent = count > 1 ? many.replace("{count}", count) : count ? one : "";
        output.nextElementSibling.hidden = count <= 1;
    }

    area.addEventListener("input", showCount);
    showCount();
    area.addEventListener("blur", () => {
        cursor = area.selectionEnd;
    });
    form.querySelectorAll("#cellcast-texts li").forEach((item) => {
        const button = document.createElement("button");
        button.type = "button";
        button.className = "cellcast-button cellcast-button-quiet";
        button.append(...item.childNodes);
        item.append(button);
        button.addEventListener("click", () => {
            const place = cursor ?? area.value.length;
            const before = /\S$/.test(area.value.slice(0, place)) ? " " : "";
            const after = /^\S/.test(area.value.slice(place)) ? " " : "";
            area.focus();
            area.setSelectionRange(place, place);
            // As if it were pasted: unlike what setRangeText does, it can be undone.
            document.execCommand("insertText", false, before + button.textContent + after);
            item.parentElement.hidePopover();
        });
    });
});
