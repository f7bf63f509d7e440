// Events, by which a part of the page reaches others without importing them.

const listeners = {
  team: [], // (): others have come, gone, opened or saved images
  kept: [], // (): another image is the next one
  listed: [], // (): the list of images is another
  opening: [], // (): another image is being fetched
  opened: [], // (isThere): another image is open, or could not be opened
  changed: [], // (): anything about the open image has changed
  grid: [], // (): only its numbers have, or the cell under the pointer or the cell cursor
  predicted: [], // (): only its prediction has
  revised: [], // (): its list of revisions has
  saving: [], // (state): the saver's state has, see Saver
  saved: [], // (change, response): the server has stored a change
  refused: [], // (change): the server will not take a change, however often it is sent
};

export const on = (event, action) => listeners[event].push(action);
export const emit = (event, ...facts) => listeners[event].forEach((action) => action(...facts));
