// The theme's toggles in the sidebar show an arrow only; screen readers need a name.
document.addEventListener("DOMContentLoaded", () => {
  for (const toggle of document.querySelectorAll(".bd-sidebar-primary summary"))
    toggle.setAttribute("aria-label", "Show or hide the pages below");
});
