{
  const $ = jQueryOfPage;
  const stored = document.getElementById("report-data").textContent;
  const data = JSON.parse(stored);

  // Tables: DataTables sorts and filters; what it cannot know is told by the cells' data-order.
  $.fn.dataTable.ext.errMode = "throw";
  for (const table of document.querySelectorAll("table.sortable")) {
    const made = $(table).DataTable({
      paging: false,
      order: [],
      autoWidth: false,
      layout: { topStart: "search", topEnd: "info", bottomStart: null, bottomEnd: null },
      language: {
        search: "Filter",
        info: "_TOTAL_ rows",
        infoEmpty: "0 rows",
        infoFiltered: "of _MAX_",
        zeroRecords: "No row matches.",
      },
    });
    for (const select of document.querySelectorAll(`select[data-filters="${table.id}"]`)) {
      made.table().container().querySelector(".dt-layout-start").append(select.closest(".pick"));
      select.addEventListener("change", () => {
        const wanted = select.value && `^${$.fn.dataTable.util.escapeRegex(select.value)}$`;
        made.column(Number(select.dataset.column)).search(wanted, { regex: true, smart: false, caseInsensitive: false }).draw();
      });
    }
  }

  // The values of one layer.
  const layers = new Map((data.layers ?? []).map((layer) => [layer.name, layer]));
  const choice = document.getElementById("layer-choice");
  const fill = (id, series) => {
    const shares = series.map((counts) => {
      const all = counts ? counts.reduce((sum, count) => sum + count, 0) : 0;
      return counts && all ? counts.map((count) => count / all) : null;
    });
    const most = Math.max(1e-12, ...shares.flatMap((each) => each ?? []));
    document.querySelectorAll(`#${id} .column`).forEach((column, place) => {
      column.querySelectorAll("i").forEach((bar, number) => {
        bar.style.setProperty("--share", shares[number] ? shares[number][place] / most : 0);
        bar.hidden = !shares[number];
      });
    });
    document.querySelectorAll(`#${id}-numbers tbody tr`).forEach((row, place) => {
      row.querySelectorAll("td").forEach((cell, number) => {
        const share = shares[number];
        cell.textContent = share
          ? `${series[number][place].toLocaleString("en")} (${(100 * share[place]).toFixed(2)} %)`
          : "-";
      });
    });
  };
  const show = (name) => {
    const layer = layers.get(name);
    if (!layer) return;
    fill("codes", [layer.weights?.counts, layer.activations?.counts]);
    fill("blocks", [layer.weight_blocks?.counts, layer.activation_blocks?.counts]);
    for (const item of document.querySelectorAll("[data-needs=activations]")) item.hidden = !layer.activations;
  };
  if (choice) {
    choice.addEventListener("change", () => show(choice.value));
    document.addEventListener("click", (event) => {
      const link = event.target.closest?.("a[data-layer]");
      if (!link) return;
      choice.value = link.dataset.layer;
      show(choice.value);
    });
    show(choice.value);
  }

  const download = document.getElementById("download");
  download.hidden = false;
  download.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([stored], { type: "application/json" }));
    link.download = "report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });

  // What is folded on a screen is wanted on paper.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
}
