/* Buttons that copy a text on the page, or select it where the browser does not allow copying. */
"use strict";

const FEEDBACK_MILLISECONDS = 2000;

document.querySelectorAll("[data-copy]").forEach((button) => {
    const source = document.getElementById(button.dataset.copy);
    const words = button.closest("[data-copied]").dataset;
    const status = button.closest("section").querySelector("[role=status]");
    const label = button.firstChild;
    const action = label.data;

    function select() {
        getSelection().selectAllChildren(source);
        status.textContent = words.selected;
    }

    button.hidden = false;
    button.addEventListener("click", () => {
        if (!navigator.clipboard) {
            select();
            return;
        }
        navigator.clipboard.writeText(source.textContent).then(() => {
            status.textContent = words.copied + ": " + source.textContent;
            label.data = words.copied + " ✓";
            setTimeout(() => {
                label.data = action;
            }, FEEDBACK_MILLISECONDS);
        }, select);
    });
});
