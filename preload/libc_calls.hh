// The only table of libc's own functions that wrappers go on to. Each is looked up when it is first wanted: dlsym may
// allocate, and nothing may be needed before constructors ran. System calls that need nothing of libc go through tto.h.
#pragma once

#include <dlfcn.h>

#include <atomic>
#include <cstdlib>

namespace tto::preload {

/// One libc function; a static of zero bytes until first used.
template <typename Function>
class LibcCall {
 public:
  constexpr explicit LibcCall(const char* name) : name_(name) {}
  template <typename... Args>
  auto operator()(Args... args) {
    return pointer()(args...);
  }
  Function* pointer() {
    void* p = pointer_.load(std::memory_order_acquire);
    if (p == nullptr) {
      p = dlsym(RTLD_NEXT, name_);
      if (p == nullptr) abort();  // not the libc this was built for
      pointer_.store(p, std::memory_order_release);
    }
    return reinterpret_cast<Function*>(p);
  }

 private:
  const char* name_;
  std::atomic<void*> pointer_{nullptr};
};

}  // namespace tto::preload

#define TTO_LIBC(name, type) static constinit ::tto::preload::LibcCall<type> libc_##name(#name)
