// A communicator of the pretend NCCL.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "tests/cuda_on_host/nccl/meeting.h"

struct ncclComm {
  ncclComm(const std::string& name, int rank_of_this, int size_of_all, int card_of_this);
  ~ncclComm();
  ncclComm(const ncclComm&) = delete;
  ncclComm& operator=(const ncclComm&) = delete;

  void start();   // meets the others
  void finish();  // waits for what is queued
  void abort();

  // Queues a collective, unless the communicator has failed. Its operands must lie in memory of the card.
  ncclResult_t queue(const cuda_on_host::Call& call, cudaStream_t stream, std::function<bool()> collective);

  // Queues messages, which the ranks need not agree on.
  ncclResult_t queue_messages(cudaStream_t stream, std::function<void()> messages);

  void count_message(int peer, std::size_t bytes);  // that this rank sends

  bool went_well(cuda_on_host::Met met);  // else the communicator has failed, or was aborted
  bool barrier();  // false when the collective is over: a rank is gone, or it was aborted
  void fail(ncclResult_t status, const std::string& text);
  std::string last_error();

  const int rank, size, card;
  cuda_on_host::Meeting meeting;
  std::atomic<ncclResult_t> state{ncclInProgress};
  std::thread background;

 private:
  ncclResult_t submit_work(cudaStream_t stream, std::function<void()> work);
  void perform(const cuda_on_host::Call& call, const std::function<bool()>& collective);

  std::atomic<int> queued_{0};
  std::atomic<std::int64_t> sent_within_{0}, sent_between_{0};  // bytes
  std::atomic<bool> failed_{false}, aborted_{false};
  std::mutex mutex_;
  std::string problem_;
};
