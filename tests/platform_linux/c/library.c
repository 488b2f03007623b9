/* library: a library of the user's own. */
int answer(void);
int answer(void) { return 42; }
