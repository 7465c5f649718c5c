#include "libtto/base/settings.hh"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace tto {
namespace {

struct Setting {
  const char* name;
  bool is_set = false;
  char value[128] = {};
};
constinit Setting g_settings[] = {
    {"TTO_HELPER"}, {"TTO_DISABLE"}, {"TTO_PROFILE"}, {"TTO_SPIN_US"}, {"TTO_FRAMES"}, {"TTO_BUSY_POLL_US"},
};
constinit std::atomic<int> g_state{0};  // 0 unknown, 1 being copied, 2 known

}  // namespace

void remember_settings() {
  int expected = 0;
  if (g_state.load(std::memory_order_acquire) != 0 || !g_state.compare_exchange_strong(expected, 1)) return;
  for (Setting& s : g_settings) {
    const char* value = getenv(s.name);
    if (value == nullptr || strlen(value) >= sizeof s.value) continue;
    strcpy(s.value, value);
    s.is_set = true;
  }
  g_state.store(2, std::memory_order_release);
}

const char* setting(const char* name) {
  remember_settings();
  if (g_state.load(std::memory_order_acquire) != 2) return getenv(name);
  for (const Setting& s : g_settings)
    if (strcmp(s.name, name) == 0) return s.is_set ? s.value : nullptr;
  return nullptr;
}

}  // namespace tto
