// Leaving the page: the browser asks first while something is not saved.

let isUnsaved = () => false;
window.addEventListener("beforeunload", (event) => isUnsaved() && event.preventDefault());

/** @param check whether something is not saved now */
export const askWhile = (check) => (isUnsaved = check);

/** Load the page again without a question, as it goes on with all that it kept in the browser. */
export function startAnew() {
  askWhile(() => false);
  location.reload();
}
