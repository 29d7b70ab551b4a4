/* Buttons that copy a text of the page. Where the browser does not allow it, the text is selected. */
"use strict";

document.querySelectorAll("[data-copy]").forEach((button) => {
    const source = document.getElementById(button.dataset.copy);
    const words = button.closest("[data-copied]").dataset;
    const status = button.closest("section").querySelector("[role=status]");

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
        }, select);
    });
});
