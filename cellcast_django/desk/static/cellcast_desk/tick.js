/* A box that ticks all others of its form, and how many are ticked. Without this script it is not
   there. */
"use strict";

document.querySelectorAll("[data-ticks]").forEach((all) => {
    const boxes = [...all.form.querySelectorAll("[name='" + all.dataset.ticks + "']")];
    const button = all.form.querySelector("[data-many]");

    function showCount() {
        const count = boxes.filter((box) => box.checked).length;
        button.textContent = button.dataset.many.replace("{count}", count);
    }

    all.hidden = false;
    all.form.addEventListener("change", (event) => {
        if (event.target === all) {
            boxes.forEach((box) => {
                box.checked = all.checked;
            });
        }
        showCount();
    });
    showCount();
});
