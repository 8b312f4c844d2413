-- Requests that name one of MODELS models at random, each as likely as the others: a fourth argument beside load.lua's.
dofile(debug.getinfo(1, "S").source:sub(2):match("(.*/)") .. "load.lua")

local base_init = init
local requests = {}

function init(arguments)
  base_init(arguments)
  for number = 1, tonumber(arguments[4]) do
    wrk.headers["serve_multiplexed_model_id"] = "model-" .. number
    requests[number] = wrk.format()
  end
  math.randomseed(1)
end

function request()
  return requests[math.random(#requests)]
end
