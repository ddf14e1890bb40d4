export const PauseDialog = () => null;
