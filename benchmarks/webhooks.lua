-- Sends webhooks as benchmarks/load.py describes them, and prints figures for it to read.
-- Arguments: path and body of a report, path and body of a reply, header, first part of the ids,
-- how many different webhooks there are.
local report_path, report_body, reply_path, reply_body, authorization, prefix, pool
local count = 0

function init(arguments)
   report_path, report_body, reply_path, reply_body, authorization, prefix =
      unpack(arguments, 1, 6)
   pool = tonumber(arguments[7])
end

local function post(path, body)
   return "POST " .. path .. " HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: " .. authorization ..
      "\r\nContent-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end

function request()
   local serial = count % pool
   count = count + 1
   local id = string.format("%s%010x", prefix, serial)
   local number = string.format("+6140%07d", serial % 10000000)
   if serial % 10 < 7 then
      return post(report_path, string.format(report_body, id, number))
   end
   return post(reply_path, string.format(reply_body, id, number))
end

function done(summary, latency)
   local errors = summary.errors
   print(string.format("FIGURES %d %d %f %f %f", summary.requests,
      errors.connect + errors.read + errors.write + errors.status + errors.timeout,
      summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
