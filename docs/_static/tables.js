/* Where a table does not fit, each row becomes a block, and each cell says its column's heading. */
const tables = [...document.querySelectorAll("article table.docutils")];

for (const table of tables) {
  const headings = [...table.querySelectorAll("thead th")].map((each) => each.textContent.trim());
  for (const row of table.tBodies[0].rows) {
    for (const cell of row.cells) {
      cell.dataset.heading = headings[cell.cellIndex];
      cell.classList.toggle("short", cell.textContent.length <= 16);
    }
  }
}

function fits(table) {
  const texts = [...table.querySelectorAll("td > p")];
  return (
    table.scrollWidth <= table.parentElement.clientWidth &&
    texts.every((text) => text.clientHeight <= 1.2 * text.clientWidth)
  );
}

function arrange() {
  for (const table of tables) {
    table.classList.remove("stacked");
    table.classList.toggle("stacked", !fits(table));
  }
}

addEventListener("load", arrange);
addEventListener("resize", arrange);
