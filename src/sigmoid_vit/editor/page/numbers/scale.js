// The scales that the numbers of a map are coloured by. No DOM.

const NARROW = 0.01; // of a scale: less would show noise
export const UNIT = { low: 0, high: 1, isSigned: false };
const HALVED = { low: -Math.LN2, high: Math.LN2, isSigned: true }; // in nats: the probability, or the odds

/** The range of a map's own values, at least NARROW wide; of a signed map, the same around 0. */
export function scaleOf(values, isSigned) {
  if (isSigned) {
    const high = Math.max(NARROW, ...values.map(Math.abs));
    return { low: -high, high, isSigned };
  }
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { low, high: Math.max(high, low + NARROW), isSigned };
}

/** Whether the numbers of a signed map do not fill its scale: no cell alone has an effect worth a colour. */
export const isFlat = ({ high, isSigned }) => isSigned && high === NARROW;

/** The scale in force: the map's own, or where it is fixed, the same for all images. */
export const scaleInForce = ({ scale = UNIT, display }) =>
  display?.fixed ? (scale.isSigned ? HALVED : UNIT) : scale;

/** The scale of edited values: that of the map they stand in, or 0..1 where that is in nats. */
export const scaleOfEdits = (scale) => (scale.isSigned ? UNIT : scale);
