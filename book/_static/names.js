/* The theme's buttons that unfold a part of the contents hold an arrow alone: a screen reader is told what they unfold. */
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll("nav details > summary")) {
    const page = button.closest("li")?.querySelector(":scope > a");
    button.setAttribute("aria-label", `Pages below ${page?.textContent.trim() ?? "this one"}`);
  }
});
