// Sets light or dark before anything is drawn: as chosen, or as the system has it.
(() => {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  const chosen = () => {
    try { return localStorage.getItem('lockstep.theme') || 'system'; } catch { return 'system'; }
  };
  const apply = () => {
    const is = chosen() === 'system' ? (dark.matches ? 'dark' : 'light') : chosen();
    document.documentElement.dataset.theme = is;
  };
  dark.addEventListener('change', apply);
  apply();
  window.lockstepTheme = {
    chosen,
    choose(theme) {
      try { localStorage.setItem('lockstep.theme', theme); } catch { /* it is not kept then */ }
      apply();
    },
  };
})();
