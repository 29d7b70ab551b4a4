/* A box that ticks all others of its form. Without this script it is not there. */
"use strict";

document.querySelectorAll("[data-ticks]").forEach((all) => {
    const boxes = all.form.querySelectorAll("[name='" + all.dataset.ticks + "']");

    all.hidden = false;
    all.addEventListener("change", () => {
        boxes.forEach((box) => {
            box.checked = all.checked;
        });
    });
});
