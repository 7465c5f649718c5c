#include "tests/support/alloc_guard.hh"

#include <cstdlib>
#include <new>

namespace tto::testing {
namespace {

thread_local int live_guards = 0;
thread_local size_t counted = 0;

void* allocate(size_t bytes, size_t alignment) {
  if (live_guards > 0) ++counted;
  void* p = alignment <= alignof(std::max_align_t)
                ? std::malloc(bytes == 0 ? 1 : bytes)
                : std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (p == nullptr) std::abort();
  return p;
}

}  // namespace

AllocGuard::AllocGuard() {
  ++live_guards;
  counted = 0;
}
AllocGuard::~AllocGuard() { --live_guards; }
size_t AllocGuard::allocations() const { return counted; }

}  // namespace tto::testing

void* operator new(size_t bytes) { return tto::testing::allocate(bytes, 0); }
void* operator new[](size_t bytes) { return tto::testing::allocate(bytes, 0); }
void* operator new(size_t bytes, std::align_val_t a) { return tto::testing::allocate(bytes, static_cast<size_t>(a)); }
void* operator new[](size_t bytes, std::align_val_t a) { return tto::testing::allocate(bytes, static_cast<size_t>(a)); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { std::free(p); }
