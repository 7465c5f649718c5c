#include "libtto/base/check.hh"

#include <atomic>
#include <cstddef>
#include <cstdlib>

#include "libtto/base/sys.hh"

namespace tto {
namespace {

constexpr size_t kSites = 64;
constinit std::atomic<uint64_t> g_count{0};
// Sites already logged. __FILE__ has one address per translation unit, so its address and the line name a site.
constinit std::atomic<uint64_t> g_logged[kSites] = {};

/// True the first time a site asks. When the table is full the site stays silent: a flood helps nobody.
bool claim_site(const char* file, int line) {
  const uint64_t site = reinterpret_cast<uint64_t>(file) * 0x9e3779b97f4a7c15u + static_cast<uint64_t>(line) + 1;
  for (auto& slot : g_logged) {
    uint64_t seen = 0;
    if (slot.compare_exchange_strong(seen, site, std::memory_order_relaxed)) return true;
    if (seen == site) return false;
  }
  return false;
}

class Line {
 public:
  void add(const char* text) {
    while (*text != '\0' && length_ < sizeof(bytes_)) bytes_[length_++] = *text++;
  }
  void add(unsigned number) {
    char digits[11];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
      digits[--at] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    add(&digits[at]);
  }
  void print() const { (void)sys::write(2, bytes_, length_); }

 private:
  char bytes_[512];
  size_t length_ = 0;
};

}  // namespace

void report_bug(const char* what, const char* file, int line) {
  g_count.fetch_add(1, std::memory_order_relaxed);
  if (claim_site(file, line)) {
    Line text;
    text.add("libtto: bug: ");
    text.add(what);
    text.add(" at ");
    text.add(file);
    text.add(":");
    text.add(static_cast<unsigned>(line));
    text.add("\n");
    text.print();
  }
#ifndef NDEBUG
  std::abort();
#endif
}

uint64_t bug_count() { return g_count.load(std::memory_order_relaxed); }

}  // namespace tto
