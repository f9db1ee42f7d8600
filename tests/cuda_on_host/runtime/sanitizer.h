// What ThreadSanitizer is told of streams: the order that CUDA promises, and nothing of the locks that pretend cards have.
// Such locks would order streams by chance, and hide that a wait between them is missing.
#pragma once

#include <cstddef>

#ifdef __SANITIZE_THREAD__
extern "C" {
void AnnotateIgnoreSyncBegin(const char* file, int line);
void AnnotateIgnoreSyncEnd(const char* file, int line);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
void __tsan_acquire(void* place);
void __tsan_release(void* place);
void __tsan_read_range(void* begin, unsigned long bytes);
void __tsan_write_range(void* begin, unsigned long bytes);
}
#endif

namespace cuda_on_host {

#ifdef __SANITIZE_THREAD__

// In its scope the calling thread's locks order nothing, and nobody looks at what it reads and writes.
class Unseen {
 public:
  Unseen() {
    AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
  }
  ~Unseen() {
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;
};

// What a thread did before happened(place) comes before what another does after seen(place). Not in the scope of Unseen.
inline void happened(const void* place) {
  __tsan_release(const_cast<void*>(place));
}
inline void seen(const void* place) {
  __tsan_acquire(const_cast<void*>(place));
}

// For code that is compiled without the sanitizer, since it would take minutes: what it reads or writes.
inline void reads(const void* begin, std::size_t bytes) {
  __tsan_read_range(const_cast<void*>(begin), bytes);
}
inline void writes(void* begin, std::size_t bytes) {
  __tsan_write_range(begin, bytes);
}

#else

class Unseen {
 public:
  Unseen() {}
};
inline void happened(const void*) {}
inline void seen(const void*) {}
inline void reads(const void*, std::size_t) {}
inline void writes(void*, std::size_t) {}

#endif

}  // namespace cuda_on_host
