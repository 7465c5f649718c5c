// Where libc itself reads, writes or closes a descriptor, beyond what interposition sees: streams, formatted output to
// a descriptor, calls that move bytes between two descriptors, asynchronous I/O.
#include <aio.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "libtto/include/tto/tto.h"
#include "libtto/stack/facade.hh"
#include "preload/export.hh"
#include "preload/libc_calls.hh"

using tto::facade::is_accelerated;
using tto::facade::leave_to_kernel;
using tto::facade::unserved;

namespace {

TTO_LIBC(fdopen, FILE*(int, const char*));
TTO_LIBC(fclose, int(FILE*));
TTO_LIBC(freopen, FILE*(const char*, const char*, FILE*));
TTO_LIBC(freopen64, FILE*(const char*, const char*, FILE*));
TTO_LIBC(vdprintf, int(int, const char*, va_list));
TTO_LIBC(__vdprintf_chk, int(int, int, const char*, va_list));
TTO_LIBC(preadv2, ssize_t(int, const iovec*, int, off_t, int));
TTO_LIBC(pwritev2, ssize_t(int, const iovec*, int, off_t, int));
TTO_LIBC(splice, ssize_t(int, off64_t*, int, off64_t*, size_t, unsigned));
TTO_LIBC(tee, ssize_t(int, int, size_t, unsigned));
TTO_LIBC(vmsplice, ssize_t(int, const iovec*, size_t, unsigned));
TTO_LIBC(copy_file_range, ssize_t(int, off64_t*, int, off64_t*, size_t, unsigned));
TTO_LIBC(aio_read, int(aiocb*));
TTO_LIBC(aio_write, int(aiocb*));
TTO_LIBC(lio_listio, int(int, aiocb* const[], int, sigevent*));

/// A stream's reads and writes happen inside libc: the socket is the kernel's from now on.
FILE* open_stream(int fd, const char* mode) {
  if (leave_to_kernel(fd)) return libc_fdopen(fd, mode);
  unserved(EOPNOTSUPP);
  return nullptr;
}

int write_all(int fd, const char* text, int bytes) {
  for (int done = 0; done < bytes;) {
    const ssize_t n = tto_write(fd, text + done, static_cast<size_t>(bytes - done));
    if (n < 0) {
      if (errno == EINTR) continue;
      return -1;
    }
    done += static_cast<int>(n);
  }
  return bytes;
}

/// vdprintf for a socket of ours.
int print(int fd, const char* format, va_list arguments) {
  char small[1024];
  va_list again;
  va_copy(again, arguments);
  const int bytes = vsnprintf(small, sizeof small, format, arguments);
  int result = bytes;
  if (bytes >= 0 && static_cast<size_t>(bytes) < sizeof small) {
    result = write_all(fd, small, bytes);
  } else if (bytes >= 0) {
    char* large = static_cast<char*>(malloc(static_cast<size_t>(bytes) + 1));
    result =
        large == nullptr ? -1 : write_all(fd, large, vsnprintf(large, static_cast<size_t>(bytes) + 1, format, again));
    free(large);
  }
  va_end(again);
  return result;
}

int print_any(int fd, const char* format, va_list arguments) {
  return is_accelerated(fd) ? print(fd, format, arguments) : libc_vdprintf(fd, format, arguments);
}
int print_any_checked(int fd, int flag, const char* format, va_list arguments) {
  return is_accelerated(fd) ? print(fd, format, arguments) : libc___vdprintf_chk(fd, flag, format, arguments);
}

}  // namespace

// --- streams
// -----------------------------------------------------------------------------------------------------------
TTO_EXPORT(FILE*, fdopen, int fd, const char* mode) { return open_stream(fd, mode); }
TTO_EXPORT(FILE*, _IO_fdopen, int fd, const char* mode) { return open_stream(fd, mode); }

TTO_EXPORT(int, fclose, FILE* stream) {
  tto::facade::ClosedByLibc closed(fileno(stream));
  const int result = libc_fclose(stream);
  closed.done();
  return result;
}
TTO_EXPORT(FILE*, freopen, const char* path, const char* mode, FILE* stream) {
  tto::facade::ClosedByLibc closed(fileno(stream));
  FILE* result = libc_freopen(path, mode, stream);
  closed.done();
  return result;
}
TTO_EXPORT(FILE*, freopen64, const char* path, const char* mode, FILE* stream) {
  tto::facade::ClosedByLibc closed(fileno(stream));
  FILE* result = libc_freopen64(path, mode, stream);
  closed.done();
  return result;
}

TTO_EXPORT(int, vdprintf, int fd, const char* format, va_list arguments) { return print_any(fd, format, arguments); }
TTO_EXPORT(int, __vdprintf_chk, int fd, int flag, const char* format, va_list arguments) {
  return print_any_checked(fd, flag, format, arguments);
}
TTO_EXPORT(int, dprintf, int fd, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = print_any(fd, format, arguments);
  va_end(arguments);
  return result;
}
TTO_EXPORT(int, __dprintf_chk, int fd, int flag, const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  const int result = print_any_checked(fd, flag, format, arguments);
  va_end(arguments);
  return result;
}

// --- with an offset, or between descriptors
// ---------------------------------------------------------------------------- At offset -1 these are readv and writev;
// flags have no meaning for sockets. Other offsets: ESPIPE, from the placeholder.
TTO_EXPORT(ssize_t, preadv2, int fd, const iovec* v, int n, off_t at, int flags) {
  return is_accelerated(fd) && at == -1 ? tto_readv(fd, v, n) : libc_preadv2(fd, v, n, at, flags);
}
TTO_EXPORT(ssize_t, preadv64v2, int fd, const iovec* v, int n, off_t at, int flags) {
  return is_accelerated(fd) && at == -1 ? tto_readv(fd, v, n) : libc_preadv2(fd, v, n, at, flags);
}
TTO_EXPORT(ssize_t, pwritev2, int fd, const iovec* v, int n, off_t at, int flags) {
  return is_accelerated(fd) && at == -1 ? tto_writev(fd, v, n) : libc_pwritev2(fd, v, n, at, flags);
}
TTO_EXPORT(ssize_t, pwritev64v2, int fd, const iovec* v, int n, off_t at, int flags) {
  return is_accelerated(fd) && at == -1 ? tto_writev(fd, v, n) : libc_pwritev2(fd, v, n, at, flags);
}
// EINVAL is what callers know as "not for this descriptor", and fall back to read and write.
TTO_EXPORT(ssize_t, splice, int in, off64_t* in_at, int out, off64_t* out_at, size_t n, unsigned flags) {
  const bool in_is_kernels = leave_to_kernel(in),
             out_is_kernels = leave_to_kernel(out);  // both, whatever the first says
  return in_is_kernels && out_is_kernels ? libc_splice(in, in_at, out, out_at, n, flags) : unserved(EINVAL);
}
// No socket will do for these: the placeholder's answer is that of any socket.
TTO_EXPORT(ssize_t, tee, int in, int out, size_t n, unsigned flags) { return libc_tee(in, out, n, flags); }
TTO_EXPORT(ssize_t, vmsplice, int fd, const iovec* v, size_t n, unsigned flags) {
  return libc_vmsplice(fd, v, n, flags);
}
TTO_EXPORT(ssize_t, copy_file_range, int in, off64_t* in_at, int out, off64_t* out_at, size_t n, unsigned flags) {
  return libc_copy_file_range(in, in_at, out, out_at, n, flags);
}

// --- asynchronous: threads inside libc
// ---------------------------------------------------------------------------------
TTO_EXPORT(int, aio_read, aiocb* request) {
  return leave_to_kernel(request->aio_fildes) ? libc_aio_read(request) : unserved(ENOSYS);
}
TTO_EXPORT(int, aio_read64, aiocb* request) {
  return leave_to_kernel(request->aio_fildes) ? libc_aio_read(request) : unserved(ENOSYS);
}
TTO_EXPORT(int, aio_write, aiocb* request) {
  return leave_to_kernel(request->aio_fildes) ? libc_aio_write(request) : unserved(ENOSYS);
}
TTO_EXPORT(int, aio_write64, aiocb* request) {
  return leave_to_kernel(request->aio_fildes) ? libc_aio_write(request) : unserved(ENOSYS);
}
namespace {
int list_io(int mode, aiocb* const list[], int count, sigevent* event) {
  for (int i = 0; i < count; ++i)
    if (list[i] != nullptr && !leave_to_kernel(list[i]->aio_fildes)) return unserved(ENOSYS);
  return libc_lio_listio(mode, list, count, event);
}
}  // namespace
TTO_EXPORT(int, lio_listio, int mode, aiocb* const list[], int count, sigevent* event) {
  return list_io(mode, list, count, event);
}
TTO_EXPORT(int, lio_listio64, int mode, aiocb* const list[], int count, sigevent* event) {
  return list_io(mode, list, count, event);
}
