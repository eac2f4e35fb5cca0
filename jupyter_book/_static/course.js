// Small repairs to the theme, for keyboard and screen-reader users.
document.addEventListener("DOMContentLoaded", () => {
  // A list may hold list items only; these are bibliography entries, which say so themselves.
  for (const list of document.querySelectorAll(".citation-list")) list.removeAttribute("role");
  // A wide table scrolls inside itself on a phone.
  for (const table of document.querySelectorAll(".bd-article table")) {
    if (table.closest(".course-scroll")) continue;
    const box = document.createElement("div");
    box.className = "course-scroll";
    table.replaceWith(box);
    box.append(table);
  }
  // Whatever is wider than the page scrolls inside itself, and can be reached with the keyboard.
  const reach = () => {
    for (const formula of document.querySelectorAll(".bd-article mjx-container:not([display])")) {
      formula.classList.remove("course-wide");
      const room = formula.closest("p, li, dd, td, th, h1, h2, h3, h4");
      if (room && formula.getBoundingClientRect().right > room.getBoundingClientRect().right + 1) formula.classList.add("course-wide");
    }
    for (const box of document.querySelectorAll(".course-scroll, .course-wide, .bd-article pre, div.math, mjx-container[display]")) {
      if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
  };
  reach();
  addEventListener("load", () => (window.MathJax?.startup?.promise ?? Promise.resolve()).then(reach));
  addEventListener("resize", reach);
});

// Paper is white: print the light theme, whatever the screen shows.
matchMedia("print").addEventListener("change", (print) => {
  const root = document.documentElement;
  if (print.matches) [root.dataset.screen, root.dataset.theme] = [root.dataset.theme, "light"];
  else root.dataset.theme = root.dataset.screen;
});
