// The TTO_* environment variables, as they were when the process first used us: servers clear their environment before
// their workers start (nginx), and a forked worker is as much ours as its parent.
#pragma once

namespace tto {

/// Copies the variables; the first call counts. Early: with the first socket.
void remember_settings();
/// The value of a variable named in settings.cc, null if it was not set.
const char* setting(const char* name);

}  // namespace tto
